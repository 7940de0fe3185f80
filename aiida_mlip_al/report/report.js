(function () {
  'use strict';
  var figures = JSON.parse(document.getElementById('figures').textContent);
  Object.keys(figures).forEach(function (name) {
    plots.draw(document.getElementById('plot-' + name), figures[name]);
  });
})();
