(function () {
  'use strict';
  var figures = JSON.parse(document.getElementById('figures').textContent);
  var config = {
    displaylogo: false,
    responsive: true,
    displayModeBar: window.matchMedia('(hover: hover)').matches ? 'hover' : false,
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'],
    toImageButtonOptions: { format: 'svg' }
  };

  // Text and grid take the page's colours, so that they follow a change between light and dark.
  function colours(layout) {
    var style = getComputedStyle(document.documentElement);
    var colour = function (name) { return style.getPropertyValue(name).trim(); };
    var change = {
      'font.color': colour('--ink'),
      'hoverlabel.bgcolor': colour('--paper'),
      'hoverlabel.bordercolor': colour('--line'),
      'hoverlabel.font.color': colour('--ink'),
      'modebar.color': colour('--soft'),
      'modebar.activecolor': colour('--link'),
      'modebar.bgcolor': colour('--card')
    };
    Object.keys(layout).filter(function (key) { return /^[xy]axis\d*$/.test(key); }).forEach(function (axis) {
      change[axis + '.gridcolor'] = colour('--grid');
      change[axis + '.linecolor'] = colour('--line');
      change[axis + '.tickcolor'] = colour('--line');
    });
    return change;
  }

  Object.keys(figures).forEach(function (name) {
    var place = document.getElementById('plot-' + name);
    var figure = figures[name];
    place.textContent = '';
    Plotly.newPlot(place, figure.data, figure.layout, config).then(function () {
      Plotly.relayout(place, colours(figure.layout));
    });
  });
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', function () {
    Object.keys(figures).forEach(function (name) {
      Plotly.relayout('plot-' + name, colours(figures[name].layout));
    });
  });
})();
