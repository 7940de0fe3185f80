// Draws plotly figures whose text and grid take the page's colours, so that they follow a change between light and dark.
var plots = (function () {
  'use strict';
  var layouts = {};
  var config = {
    displaylogo: false,
    responsive: true,
    displayModeBar: window.matchMedia('(hover: hover)').matches ? 'hover' : false,
    modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d'],
    toImageButtonOptions: { format: 'svg' }
  };

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

  function draw(place, figure) {
    layouts[place.id] = figure.layout;
    if (!place.querySelector('.main-svg')) place.textContent = '';
    return Plotly.react(place, figure.data, figure.layout, config).then(function () {
      return Plotly.relayout(place, colours(figure.layout));
    });
  }

  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', function () {
    Object.keys(layouts).forEach(function (id) {
      if (document.getElementById(id)) Plotly.relayout(id, colours(layouts[id]));
    });
  });
  return { draw: draw };
})();
