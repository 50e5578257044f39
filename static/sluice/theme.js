// Loaded before anything is painted, so that a chosen theme never flashes. "auto" follows the system.
(function () {
  "use strict";
  var root = document.documentElement;
  var system = window.matchMedia("(prefers-color-scheme: dark)");
  function chosen() {
    try {
      return localStorage.getItem("sluice-theme") || "auto";
    } catch (blocked) {
      return "auto";
    }
  }
  function apply() {
    var choice = chosen();
    var dark = choice === "dark" || (choice === "auto" && system.matches);
    root.setAttribute("data-bs-theme", dark ? "dark" : "light");
    root.setAttribute("data-theme-choice", choice);
    window.dispatchEvent(new CustomEvent("sluice:theme"));
  }
  window.sluiceTheme = function (choice) {
    try {
      localStorage.setItem("sluice-theme", choice);
    } catch (blocked) {
      // Private mode: the choice lasts for this page only.
    }
    apply();
  };
  system.addEventListener("change", apply);
  root.classList.add("js");
  apply();
})();
