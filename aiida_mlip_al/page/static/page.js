// Loads the parts of a page as they are needed, again when something has changed, and opens what a link points to.
(function () {
  'use strict';
  var POLL_MS = 3000;
  var REFRESH_MS = 20000;
  var head = document.getElementById('head');
  var run = head && head.dataset.run;
  var live = document.getElementById('live');
  var panel = document.getElementById('panel');
  var token = null;
  var shown = {};
  var drawnWith = {};
  var lastLook = 0;
  var lastOpener = null;

  function get(url) {
    return fetch(url, { credentials: 'same-origin' }).then(function (answer) {
      if (answer.ok || answer.status === 404) return answer.text();
      throw new Error(url + ': ' + answer.status);
    });
  }

  function fragment(html) {
    var template = document.createElement('template');
    template.innerHTML = html;
    return template.content;
  }

  function byId(root, id) {
    return root.querySelector('[id="' + id + '"]');
  }

  // ------------------------------------------------------------------------------------------------------- outline

  // What a process called is fetched when it is opened.
  function fillCalled(details) {
    return get(details.dataset.called).then(function (html) {
      details.querySelector('.children').replaceChildren(fragment(html));
    });
  }

  document.addEventListener('toggle', function (event) {
    var details = event.target;
    if (details.dataset && details.dataset.called && details.open && !details.querySelector('.children').hasChildNodes()) {
      fillCalled(details);
    }
  }, true);

  // Opens in `fresh` what was open in `old` and fills it, level by level, before anything is shown.
  function reopen(old, fresh) {
    var open = Array.prototype.map.call(old.querySelectorAll('details[open][data-called]'), function (item) { return item.id; });
    var turns = old.querySelectorAll('details.turn');
    turns.forEach(function (item) {
      var same = byId(fresh, item.id);
      if (same && item.dataset.touched) { same.open = item.open; same.dataset.touched = '1'; }
    });
    return open.reduce(function (before, id) {
      return before.then(function () {
        var same = byId(fresh, id);
        if (!same) return null;
        same.open = true;
        return fillCalled(same);
      });
    }, Promise.resolve());
  }

  document.addEventListener('click', function (event) {
    var summary = event.target.closest('details.turn > summary');
    if (summary) summary.parentNode.dataset.touched = '1';
  });

  function loadNow() {
    var place = document.getElementById('now');
    return get(place.dataset.part).then(function (html) {
      var fresh = document.createElement('div');
      fresh.append(fragment(html));
      return reopen(place, fresh).then(function () {
        if (place.innerHTML !== fresh.innerHTML) place.replaceChildren.apply(place, Array.from(fresh.childNodes));
      });
    });
  }

  // -------------------------------------------------------------------------------------------------------- report

  // Sections stand before and after the lists of structures; plots that are drawn move into the new text.
  function loadReport() {
    return get(document.getElementById('before').dataset.part).then(function (html) {
      var parts = fragment(html);
      var newHead = parts.querySelector('[data-into=head]');
      if (!newHead) { head.replaceChildren(parts); return; }
      if (shown.head !== newHead.innerHTML) {
        shown.head = newHead.innerHTML;
        head.replaceChildren.apply(head, Array.from(newHead.childNodes));
      }
      parts.querySelectorAll('[data-into=sections] > section').forEach(function (section) {
        var text = section.outerHTML;
        if (shown[section.id] === text) return;
        shown[section.id] = text;
        var old = document.getElementById(section.id);
        if (!old) {
          var before = ['learning', 'accuracy', 'exploration', 'reliability'].indexOf(section.id) >= 0;
          document.getElementById(before ? 'before' : 'after').append(section);
          return;
        }
        old.querySelectorAll('.plot').forEach(function (plot) {
          var place = byId(section, plot.id);
          if (place) place.replaceWith(plot);
        });
        var oldDetails = old.querySelector('details');
        var newDetails = section.querySelector('details');
        if (oldDetails && newDetails) newDetails.open = oldDetails.open;
        old.replaceWith(section);
      });
      watchPlots();
    });
  }

  var seen = new IntersectionObserver(function (entries) {
    entries.forEach(function (entry) {
      if (entry.isIntersecting) drawPlot(entry.target);
    });
  }, { rootMargin: '400px' });

  function watchPlots() {
    document.querySelectorAll('.plot').forEach(function (place) {
      seen.unobserve(place);
      seen.observe(place);
    });
  }

  function drawPlot(place) {
    if (drawnWith[place.id] === token) return;
    var mine = drawnWith[place.id] = token;
    get('/runs/' + run + '/figures/' + place.id.replace('plot-', '')).then(function (text) {
      if (drawnWith[place.id] !== mine) return null;
      var figure = JSON.parse(text);
      return plots.draw(place, figure).then(function () {
        if (place.dataset.links) return;
        place.dataset.links = 'yes';
        place.on('plotly_click', function (event) {
          var point = event.points[0];
          var places = point.data.meta;
          var target = places && places[point.pointNumber];
          if (target) go(target);
        });
      });
    }).catch(function () { delete drawnWith[place.id]; });
  }

  function go(place) {
    if (location.hash === '#' + place) follow(); else location.hash = place;
  }

  // --------------------------------------------------------------------------------------------------------- lists

  function loadList(list) {
    var query = new URLSearchParams(list.dataset.query || '');
    return get(list.dataset.src + '?' + query).then(function (html) {
      if (list.dataset.html === html) return;
      list.dataset.html = html;
      list.replaceChildren(fragment(html));
    });
  }

  function change(list, changes) {
    var query = new URLSearchParams(list.dataset.query || '');
    query.delete('page');
    Object.keys(changes).forEach(function (key) {
      if (changes[key] === '') query.delete(key); else query.set(key, changes[key]);
    });
    list.dataset.query = query.toString();
    return loadList(list);
  }

  document.addEventListener('click', function (event) {
    var list = event.target.closest('.list');
    if (!list) return;
    if (event.target.dataset.page) change(list, { page: event.target.dataset.page });
    if (event.target.dataset.clear) {
      change(list, Object.fromEntries(event.target.dataset.clear.split(',').map(function (key) { return [key, '']; })));
    }
  });

  document.addEventListener('change', function (event) {
    var list = event.target.closest('.list');
    if (!list) return;
    if (event.target.dataset.filter) {
      var changes = {};
      changes[event.target.dataset.filter] = event.target.value;
      change(list, changes);
    }
    if ('iteration' in event.target.dataset) {
      list.dataset.src = list.dataset.src.replace(/\d+$/, event.target.value);
      change(list, {});
    }
  });

  // --------------------------------------------------------------------------------------------------------- panel

  function follow() {
    var target = location.hash.slice(1);
    var explored = target.match(/^explored\/(\d+)(?:\?(.*))?$/);
    if (explored) {
      var list = document.getElementById('explored');
      list.dataset.src = list.dataset.src.replace(/\d+$/, explored[1]);
      list.dataset.query = explored[2] || '';
      loadList(list);
      list.scrollIntoView();
    } else if (/^(node\/\d+|test\/\d+\/\d+|chosen\/\d+\/\d+)(\?row=\d+)?$/.test(target)) {
      openPanel('/parts/' + target);
    } else if (panel) {
      closePanel();
    }
  }

  function openPanel(url) {
    if (panel.hidden) lastOpener = document.activeElement;
    return get(url).then(function (html) {
      var node = document.getElementById('node');
      node.replaceChildren(fragment(html));
      panel.hidden = false;
      panel.scrollTop = 0;
      document.body.classList.add('with-panel');
      panel.focus({ preventScroll: true });
      node.querySelectorAll('.viewer').forEach(mountViewer);
    });
  }

  function closePanel() {
    if (panel.hidden) return;
    panel.hidden = true;
    document.body.classList.remove('with-panel');
    if (lastOpener && lastOpener.isConnected) lastOpener.focus({ preventScroll: true });
  }

  if (panel) {
    var close = function () {
      closePanel();
      history.replaceState(null, '', location.pathname + location.search);
    };
    panel.querySelector('.close').addEventListener('click', close);
    document.addEventListener('keydown', function (event) { if (event.key === 'Escape' && !panel.hidden) close(); });
    window.addEventListener('hashchange', follow);
  }

  // -------------------------------------------------------------------------------------------------------- viewer

  var library = null;
  function load3Dmol() {
    library = library || new Promise(function (done, failed) {
      var script = document.createElement('script');
      script.src = document.body.dataset.static + '3Dmol-min.js';
      script.onload = done;
      script.onerror = failed;
      document.head.append(script);
    });
    return library;
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function mountViewer(place) {
    var rows = Number(place.dataset.rows);
    var canvas = document.createElement('div');
    var controls = document.createElement('div');
    canvas.className = 'canvas';
    controls.className = 'controls';
    place.append(canvas, controls);
    var name = document.createElement('span');
    var forces = document.createElement('label');
    var box = document.createElement('input');
    box.type = 'checkbox';
    forces.append(box, ' forces');
    forces.hidden = true;
    controls.append(name, forces);
    var slider = document.createElement('input');
    slider.type = 'range';
    slider.max = rows - 1;
    slider.value = Math.min(Number(place.dataset.row), rows - 1);
    slider.setAttribute('aria-label', 'Frame');
    if (rows > 1) controls.append(slider);
    var viewer = null;
    var structure = null;
    var draw = function (first) {
      viewer.clear();
      showStructure(viewer, structure, box.checked);
      if (first) viewer.zoomTo();
      viewer.render();
    };
    var load = function (first) {
      var row = slider.value;
      return get(place.dataset.structure + row).then(function (text) {
        structure = JSON.parse(text);
        name.textContent = structure.formula + ', ' + structure.symbols.length + ' atoms' + (rows > 1 ? ', frame ' + row : '');
        forces.hidden = !structure.forces;
        draw(first);
      });
    };
    load3Dmol().then(function () {
      viewer = $3Dmol.createViewer(canvas, { backgroundColor: colour('--card') });
      box.addEventListener('change', function () { draw(false); });
      slider.addEventListener('input', function () { load(false); });
      return load(true);
    }).catch(function () {
      canvas.textContent = 'This browser draws no 3-D graphics (WebGL).';
    });
  }

  function showStructure(viewer, structure, withForces) {
    var xyz = structure.symbols.length + '\n\n' + structure.symbols.map(function (symbol, k) {
      return symbol + ' ' + structure.positions[k].join(' ');
    }).join('\n');
    viewer.addModel(xyz, 'xyz').setStyle({}, { stick: { radius: 0.12, colorscheme: 'Jmol' }, sphere: { scale: 0.3, colorscheme: 'Jmol' } });
    var point = function (p) { return { x: p[0], y: p[1], z: p[2] }; };
    if (structure.cell) {
      [0, 1, 2].forEach(function (axis) {
        var others = [0, 1, 2].filter(function (other) { return other !== axis; });
        [0, 1, 2, 3].forEach(function (corner) {
          var start = [0, 0, 0];
          others.forEach(function (other, bit) {
            if (corner >> bit & 1) start = start.map(function (x, k) { return x + structure.cell[other][k]; });
          });
          var end = start.map(function (x, k) { return x + structure.cell[axis][k]; });
          viewer.addLine({ start: point(start), end: point(end), color: colour('--soft') });
        });
      });
    }
    if (withForces && structure.forces) {
      var largest = Math.max.apply(null, structure.forces.map(function (f) { return Math.hypot.apply(null, f); })) || 1;
      structure.forces.forEach(function (force, k) {
        var start = structure.positions[k];
        var end = start.map(function (x, axis) { return x + 1.8 * force[axis] / largest; });
        viewer.addArrow({ start: point(start), end: point(end), radius: 0.06, color: '#e8590c' });
      });
    }
  }

  // --------------------------------------------------------------------------------------------------------- clock

  function say(text, lost) {
    live.textContent = text;
    live.classList.toggle('lost', Boolean(lost));
  }

  function refresh() {
    lastLook = Date.now();
    if (!run) return loadList(document.getElementById('runs'));
    var lists = ['labels', 'explored'].map(function (id) { return document.getElementById(id); });
    return Promise.all([loadNow(), loadReport().then(function () { return Promise.all(lists.map(loadList)); })]);
  }

  function look() {
    if (document.hidden && token !== null) return Promise.resolve();
    return get(run ? '/runs/' + run + '/changes' : '/changes').then(function (text) {
      var now = JSON.parse(text).token;
      var changed = now !== token;
      token = now;
      var old = Date.now() - lastLook > REFRESH_MS && document.querySelector('.dot.running, .state.running');
      if (!changed && !old) return null;
      return changed ? refresh() : run ? (lastLook = Date.now(), loadNow()) : refresh();
    }).then(function () {
      say('up to date ' + new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
    }, function () {
      say('no answer from the server: is `aiida-mlip-al serve` still running?', true);
    });
  }

  function again() {
    look().finally(function () { setTimeout(again, POLL_MS); });
  }

  look().then(function () {
    if (panel) follow();
    if (run && location.hash && panel.hidden) {
      var target = document.getElementById(location.hash.slice(1));
      if (target) target.scrollIntoView();
    }
    document.documentElement.dataset.ready = 'yes';
    setTimeout(again, POLL_MS);
  });
  document.addEventListener('visibilitychange', function () { if (!document.hidden) look(); });
})();
