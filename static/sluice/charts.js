// What stands under the pointer of a chart, beside it. The chart itself is drawn by the server and stands with its numbers in a table.
(function () {
  "use strict";
  var box = null, shownFor = null;

  function element(tag, className, text) {
    var made = document.createElement(tag);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  }

  function fill(column) {
    box.replaceChildren(element("div", "plot-tip-title", column.dataset.title));
    JSON.parse(column.dataset.tip).forEach(function (row) {
      var line = element("div", "plot-tip-row");
      line.append(element("span", row[0] ? "swatch tone-" + row[0] : "swatch none"), element("span", "inert clip", row[1]), element("b", "", row[2]));
      box.append(line);
    });
    if (column.href) box.append(element("div", "plot-tip-more", "Click for what is in it"));
  }

  function place(event) {
    var margin = 14, width = box.offsetWidth, height = box.offsetHeight;
    var x = event.clientX + margin, y = event.clientY - height - margin;
    if (x + width > document.documentElement.clientWidth - 8) x = event.clientX - width - margin;
    box.style.left = Math.max(8, x) + "px";
    box.style.top = Math.max(8, y < 8 ? event.clientY + margin : y) + "px";
  }

  function hide() {
    if (box) box.hidden = true;
    shownFor = null;
  }

  document.addEventListener("pointermove", function (event) {
    var column = event.target instanceof Element ? event.target.closest(".plot-column") : null;
    if (!column) { if (shownFor) hide(); return; }
    if (!box) {
      box = element("div", "plot-tip");
      box.setAttribute("aria-hidden", "true");
      document.body.append(box);
    }
    if (shownFor !== column) {
      shownFor = column;
      fill(column);
    }
    box.hidden = false;
    place(event);
  });
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("htmx:beforeSwap", hide);
})();
