// Bar charts from the table that stands beside them: <canvas data-chart="#table">. The table is the source, so a reader without
// sight or without JavaScript has the same numbers. Colours are read from probes because canvas cannot parse light-dark(oklch()).
(function () {
  "use strict";

  function colour(name) {
    var probe = document.createElement("span");
    probe.className = "chart-probe chart-probe-" + name;
    document.body.appendChild(probe);
    var canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    var pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = getComputedStyle(probe).color;
    pen.fillRect(0, 0, 1, 1);
    var rgba = pen.getImageData(0, 0, 1, 1).data;
    probe.remove();
    return "rgba(" + rgba[0] + "," + rgba[1] + "," + rgba[2] + "," + (rgba[3] / 255).toFixed(3) + ")";
  }

  function dollars(value) {
    if (value === 0) return "$0";
    if (value >= 1000) return "$" + Math.round(value).toLocaleString("en-US");
    if (value >= 10) return "$" + value.toLocaleString("en-US", { maximumFractionDigits: 2 });
    if (value >= 0.01) return "$" + value.toFixed(2);
    return "$" + Number(value.toPrecision(2)).toString();
  }

  function read(table) {
    var labels = [], days = [], series = [];
    table.querySelectorAll("thead th[data-series]").forEach(function (head) {
      series.push({ label: head.dataset.series, values: [], shown: [] });
    });
    table.querySelectorAll("tbody tr").forEach(function (row) {
      labels.push(row.dataset.label);
      days.push(row.dataset.day || row.dataset.label);
      row.querySelectorAll("td[data-value]").forEach(function (cell, index) {
        if (!series[index]) return;
        series[index].values.push(Number(cell.dataset.value));
        series[index].shown.push(cell.textContent.trim());
      });
    });
    return { labels: labels, days: days, series: series };
  }

  function draw(canvas) {
    var table = document.querySelector(canvas.dataset.chart);
    if (!table || !window.Chart) return;
    var found = read(table);
    var grid = colour("grid"), text = colour("text"), surface = colour("surface");
    var palette = ["1", "2", "3", "4", "5", "6"].map(colour);
    var config = {
      type: "bar",
      data: {
        labels: found.labels,
        datasets: found.series.map(function (one, index) {
          return {
            label: one.label,
            data: one.values,
            backgroundColor: palette[index % palette.length],
            hoverBackgroundColor: palette[index % palette.length],
            borderRadius: 3,
            borderSkipped: "bottom",
            maxBarThickness: 28,
            categoryPercentage: 0.82,
            barPercentage: 0.92,
            stack: "spend"
          };
        })
      },
      options: {
        responsive: true,
        maintainAspectRatio: false,
        animation: false,
        interaction: { mode: "index", intersect: false },
        layout: { padding: { top: 4 } },
        plugins: {
          legend: { display: false },
          tooltip: {
            backgroundColor: surface,
            titleColor: text,
            bodyColor: text,
            borderColor: grid,
            borderWidth: 1,
            padding: 10,
            cornerRadius: 8,
            boxPadding: 5,
            usePointStyle: true,
            titleFont: { family: "Inter", weight: "600", size: 12 },
            bodyFont: { family: "Inter", size: 12 },
            filter: function (item) { return found.series.length === 1 || item.raw > 0; },
            callbacks: {
              title: function (items) { return items.length ? found.days[items[0].dataIndex] : ""; },
              label: function (item) {
                var one = found.series[item.datasetIndex];
                return " " + one.label + "  " + (one.shown[item.dataIndex] || dollars(item.raw));
              }
            }
          }
        },
        scales: {
          x: {
            stacked: true,
            border: { color: grid },
            grid: { display: false },
            ticks: { color: text, maxRotation: 0, autoSkipPadding: 16, font: { family: "Inter", size: 11 } }
          },
          y: {
            stacked: true,
            beginAtZero: true,
            border: { display: false },
            grid: { color: grid, tickLength: 0 },
            ticks: { color: text, padding: 8, maxTicksLimit: 5, callback: dollars, font: { family: "Inter", size: 11 } }
          }
        }
      }
    };
    if (canvas.sluiceChart) {
      if (canvas.sluiceTheme === document.documentElement.dataset.bsTheme) {
        canvas.sluiceChart.data = config.data;
        canvas.sluiceChart.options = config.options;
        canvas.sluiceChart.update("none");
        return;
      }
      canvas.sluiceChart.destroy();
    }
    canvas.sluiceTheme = document.documentElement.dataset.bsTheme;
    canvas.sluiceChart = new window.Chart(canvas, config);
  }

  function drawAll() {
    document.querySelectorAll("canvas[data-chart]").forEach(draw);
  }
  window.addEventListener("sluice:theme", function () { requestAnimationFrame(drawAll); });
  document.addEventListener("htmx:afterSwap", drawAll);
  document.addEventListener("DOMContentLoaded", function () {
    if (document.fonts && document.fonts.ready) document.fonts.ready.then(drawAll);
    drawAll();
  });
})();
