// Behaviour of the pages. Everything is found by data attributes, so fragments swapped in by htmx work without set-up.
(function () {
  "use strict";

  function closest(event, selector) {
    return event.target instanceof Element ? event.target.closest(selector) : null;
  }

  // ------------------------------------------------------------------------------------------------ copy buttons
  function copied(button) {
    var label = button.querySelector("[data-copy-label]");
    button.classList.add("is-copied");
    if (label) {
      if (!button.dataset.label) button.dataset.label = label.textContent;
      label.textContent = "Copied";
    }
    clearTimeout(button.copyTimer);
    button.copyTimer = setTimeout(function () {
      button.classList.remove("is-copied");
      if (label) label.textContent = button.dataset.label;
    }, 1800);
  }

  function copy(text, button) {
    if (navigator.clipboard && window.isSecureContext) {
      navigator.clipboard.writeText(text).then(
        function () { copied(button); },
        function () { copyBySelection(text, button); }
      );
    } else {
      copyBySelection(text, button);
    }
  }

  function copyBySelection(text, button) {
    // Plain http on another host than localhost has no clipboard API.
    var area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.appendChild(area);
    area.select();
    if (document.execCommand("copy")) copied(button);
    area.remove();
  }

  // -------------------------------------------------------------------------------------------------------- tabs
  function showTab(tab) {
    var list = tab.closest("[role=tablist]");
    list.querySelectorAll("[role=tab]").forEach(function (other) {
      var on = other === tab;
      other.setAttribute("aria-selected", on ? "true" : "false");
      other.tabIndex = on ? 0 : -1;
      var panel = document.getElementById(other.getAttribute("aria-controls"));
      if (panel) panel.hidden = !on;
    });
    var group = list.dataset.remember;
    if (group) {
      try { localStorage.setItem("sluice-tab-" + group, tab.dataset.tab || ""); } catch (blocked) { /* not remembered */ }
    }
  }

  function recallTabs(scope) {
    scope.querySelectorAll("[role=tablist][data-remember]").forEach(function (list) {
      var wanted = "";
      try { wanted = localStorage.getItem("sluice-tab-" + list.dataset.remember) || ""; } catch (blocked) { return; }
      list.querySelectorAll("[role=tab]").forEach(function (tab) {
        if (wanted && tab.dataset.tab === wanted) showTab(tab);
      });
    });
  }

  // ------------------------------------------------------------------------------------------------------ clicks
  document.addEventListener("click", function (event) {
    var button = closest(event, "[data-copy], [data-copy-from]");
    if (button) {
      var source = button.dataset.copyFrom ? document.querySelector(button.dataset.copyFrom) : null;
      copy(source ? source.textContent.replace(/\n$/, "") : button.dataset.copy, button);
      return;
    }
    var theme = closest(event, "[data-pick-theme]");
    if (theme) {
      window.sluiceTheme(theme.dataset.pickTheme);
      theme.closest("details").open = false;
      return;
    }
    var tab = closest(event, "[role=tab]");
    if (tab) {
      showTab(tab);
      return;
    }
    var opener = closest(event, "[data-dialog]");
    if (opener) {
      var dialog = document.querySelector(opener.dataset.dialog);
      if (dialog && dialog.showModal) {
        event.preventDefault();
        dialog.showModal();
        var first = dialog.querySelector("[autofocus], input:not([type=hidden]), select");
        if (first) first.focus();
      }
      return;
    }
    var closer = closest(event, "[data-close]");
    if (closer) {
      var parent = closer.closest("dialog, [data-closable]");
      if (parent && parent.tagName === "DIALOG") parent.close();
      else if (parent) parent.remove();
      event.preventDefault();
      return;
    }
    if (closest(event, "[data-menu-open]")) {
      event.preventDefault();
      document.body.classList.add("menu-open");
      return;
    }
    if (closest(event, "[data-menu-close]")) {
      event.preventDefault();
      document.body.classList.remove("menu-open");
      return;
    }
    if (event.target.tagName === "DIALOG" && !event.target.hasAttribute("data-stay")) event.target.close();
    var row = closest(event, "tr[data-href]");
    if (row && !closest(event, "a, button, input, label, summary, form") && !String(window.getSelection())) {
      window.location.href = row.dataset.href;
    }
  });

  // Dropdowns are <details class="menu">: only one open, closed by a click elsewhere and by Escape.
  document.addEventListener("click", function (event) {
    document.querySelectorAll("details.menu[open]").forEach(function (menu) {
      if (!menu.contains(event.target)) menu.open = false;
    });
  });
  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape") {
      document.querySelectorAll("details.menu[open]").forEach(function (menu) {
        menu.open = false;
        menu.querySelector("summary").focus();
      });
      document.body.classList.remove("menu-open");
    }
    var tab = closest(event, "[role=tab]");
    if (tab && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
      var tabs = Array.from(tab.closest("[role=tablist]").querySelectorAll("[role=tab]"));
      var step = event.key === "ArrowRight" ? 1 : tabs.length - 1;
      var next = tabs[(tabs.indexOf(tab) + step) % tabs.length];
      showTab(next);
      next.focus();
    }
  });

  // ------------------------------------------------------------------------------------------------------- forms
  // A form is sent once; its button says that work is under way.
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (event.defaultPrevented || form.hasAttribute("hx-post") || form.method === "dialog") return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "1";
    var button = event.submitter;
    if (button) {
      button.classList.add("is-busy");
      button.setAttribute("aria-busy", "true");
    }
  });
  window.addEventListener("pageshow", function () {
    document.querySelectorAll("form[data-sent]").forEach(function (form) {
      delete form.dataset.sent;
      form.querySelectorAll(".is-busy").forEach(function (button) {
        button.classList.remove("is-busy");
        button.removeAttribute("aria-busy");
      });
    });
  });

  // The address of a workspace follows its name until somebody edits it.
  document.addEventListener("input", function (event) {
    var name = closest(event, "[data-slug-source]");
    if (name) {
      var slug = document.querySelector(name.dataset.slugSource);
      if (slug && !slug.dataset.edited) slug.value = slugged(name.value);
    }
    if (event.target.hasAttribute("data-slug")) event.target.dataset.edited = event.target.value ? "1" : "";
    var typed = closest(event, "[data-must-equal]");
    if (typed) {
      var button = typed.form.querySelector("[data-armed]");
      if (button) button.disabled = typed.value !== typed.dataset.mustEqual;
    }
  });
  function slugged(text) {
    return text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase()
      .replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40).replace(/-+$/, "");
  }

  // Show the part of a form that belongs to the chosen option: <div data-when="field=value other">.
  function showWhen(form) {
    form.querySelectorAll("[data-when]").forEach(function (part) {
      var rule = part.dataset.when.split("=");
      var field = form.elements[rule[0]];
      if (!field) return;
      part.hidden = rule[1].split(" ").indexOf(field.value) < 0;
    });
  }
  document.addEventListener("change", function (event) {
    if (event.target.form) showWhen(event.target.form);
    if (event.target.hasAttribute("data-submit-on-change")) event.target.form.requestSubmit();
  });

  // ------------------------------------------------------------------------------------------------------- toasts
  function startToasts(scope) {
    scope.querySelectorAll(".toast-note:not([data-started])").forEach(function (toast) {
      toast.dataset.started = "1";
      if (toast.dataset.stay) return;
      setTimeout(function () {
        toast.classList.add("is-leaving");
        setTimeout(function () { toast.remove(); }, 300);
      }, 6000);
    });
  }

  // -------------------------------------------------------------------------------------------------- time of day
  // <time datetime> is rendered in the workspace's zone by the server; "3 s ago" is kept true here.
  function ago(seconds) {
    if (seconds < 5) return "just now";
    if (seconds < 60) return Math.floor(seconds) + " s ago";
    if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
    if (seconds < 86400) return Math.floor(seconds / 3600) + " h ago";
    return Math.floor(seconds / 86400) + " d ago";
  }
  function tickTimes() {
    var now = Date.now();
    document.querySelectorAll("time[data-ago]").forEach(function (time) {
      time.textContent = ago(Math.max(0, (now - Date.parse(time.dateTime)) / 1000));
    });
  }
  setInterval(function () { if (!document.hidden) tickTimes(); }, 1000);

  // --------------------------------------------------------------------------------------------------------- htmx
  // Live fragments are only asked for while somebody looks: `hx-trigger="every 2s [sluiceVisible()]"` would need eval,
  // which the CSP forbids, so a timer of ours triggers the elements marked data-live, every so many ticks.
  var TICK_MS = 500;
  var beat = 0;
  setInterval(function () {
    if (document.hidden || !window.htmx) return;
    beat += 1;
    document.querySelectorAll("[data-live]").forEach(function (part) {
      var every = Number(part.dataset.liveEvery || 3);
      if (beat % every === 0 && !part.classList.contains("htmx-request")) window.htmx.trigger(part, "live");
    });
  }, TICK_MS);
  document.addEventListener("visibilitychange", function () {
    if (document.hidden || !window.htmx) return;
    document.querySelectorAll("[data-live]").forEach(function (part) { window.htmx.trigger(part, "live"); });
  });

  function prepare(scope) {
    startToasts(scope);
    recallTabs(scope);
    tickTimes();
    scope.querySelectorAll("form").forEach(showWhen);
  }
  document.addEventListener("DOMContentLoaded", function () {
    prepare(document);
    document.querySelectorAll("dialog[data-open]").forEach(function (dialog) { dialog.showModal(); });
    var marked = document.querySelector(".is-invalid");
    if (marked) marked.focus();
  });
  // What somebody opened stays open when a live fragment is swapped, and what is new in it lights up once.
  var before = { open: [], rows: null };
  document.addEventListener("htmx:beforeSwap", function (event) {
    var part = event.detail.target;
    before.open = Array.from(part.querySelectorAll("details[id][open]"), function (one) { return one.id; });
    before.rows = part.querySelector("tr[data-href]")
      ? Array.from(part.querySelectorAll("tr[data-href]"), function (row) { return row.dataset.href; })
      : null;
  });
  document.addEventListener("htmx:afterSwap", function () {
    before.open.forEach(function (id) {
      var again = document.getElementById(id);
      if (again) again.open = true;
    });
    if (before.rows) {
      document.querySelectorAll("[data-live] tr[data-href]").forEach(function (row) {
        if (before.rows.indexOf(row.dataset.href) < 0) row.classList.add("is-new");
      });
    }
    prepare(document);
  });
  document.addEventListener("htmx:beforeRequest", function (event) {
    var button = event.detail.requestConfig.triggeringEvent && event.detail.requestConfig.triggeringEvent.submitter;
    if (button) button.classList.add("is-busy");
  });
  document.addEventListener("htmx:afterRequest", function (event) {
    event.detail.elt.querySelectorAll(".is-busy").forEach(function (button) { button.classList.remove("is-busy"); });
  });
  document.addEventListener("htmx:beforeSwap", function (event) {
    // A refused form (422) is swapped in like an accepted one: its errors belong beside the fields.
    if (event.detail.xhr.status === 422) {
      event.detail.shouldSwap = true;
      event.detail.isError = false;
    }
  });
})();
