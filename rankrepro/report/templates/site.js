"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  // colours: as the system, light, dark; remembered where the browser lets a page remember
  const store = {
    get: () => { try { return localStorage.getItem("rankrepro-theme"); } catch { return null; } },
    set: (v) => { try { v ? localStorage.setItem("rankrepro-theme", v) : localStorage.removeItem("rankrepro-theme"); } catch { /* not kept */ } },
  };
  const paint = (theme) => { theme ? root.dataset.theme = theme : delete root.dataset.theme; };
  paint(store.get());

  const themes = () => {
    const button = document.querySelector("[data-theme-toggle]");
    const label = () => {
      const name = root.dataset.theme;
      button.textContent = { light: "☀", dark: "☾" }[name] || "◐";
      button.setAttribute("aria-label", `Colours: ${name || "as the system"}`);
      button.title = button.getAttribute("aria-label");
    };
    button.addEventListener("click", () => {
      const next = { undefined: "light", light: "dark", dark: "" }[root.dataset.theme];
      paint(next);
      store.set(next);
      label();
    });
    label();
  };

  // tables that sort: numbers as numbers, groups (tbody) keep their place, a group's heading stays on top
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    const known = [a, b].map((v) => v !== "" && v !== "–");
    if (known[0] !== known[1]) return known[0] ? -2 : 2;
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const sortBy = (table, column, direction) => {
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((r) => !r.classList.contains("family"));
      const value = (r) => r.cells[column].dataset.v ?? "";
      rows.sort((a, b) => {
        const order = compare(value(a), value(b));
        return Math.abs(order) === 2 ? order : order * direction;  // the unknown last, either way
      });
      body.append(...rows);
    }
  };
  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const first = head.dataset.first || (column ? "descending" : "ascending");
        const now = head.getAttribute("aria-sort");
        const next = now === "none" ? first : now === "ascending" ? "descending" : "ascending";
        heads.forEach((h) => h.setAttribute("aria-sort", h === head ? next : "none"));
        sortBy(table, column, next === "ascending" ? 1 : -1);
      });
    });
  };

  // the front page's filters; they are kept in the address, so that a view can be sent to others
  const filters = () => {
    const controls = all("[data-filter]");
    if (!controls.length) return;
    const rows = all("tr[data-paper]");
    const found = document.querySelector("[data-found]");
    const apply = () => {
      const wanted = Object.fromEntries(controls.map((c) => [c.dataset.filter, c.value.trim().toLowerCase()]));
      let count = 0;
      for (const row of rows) {
        const show = wanted.text.split(/\s+/).every((word) => row.dataset.text.includes(word))
          && (!wanted.family || row.parentElement.dataset.family === wanted.family)
          && (!wanted.verdict || row.dataset.verdicts.split("|").includes(wanted.verdict))
          && (!wanted.state || row.dataset.state === wanted.state);
        row.hidden = !show;
        count += show;
      }
      for (const body of all("tbody[data-family]")) body.hidden = !all("tr[data-paper]:not([hidden])", body).length;
      found.textContent = count === rows.length ? `${count} cards` : `${count} of ${rows.length} cards`;
      const set = Object.entries(wanted).filter(([, v]) => v);
      history.replaceState(null, "", set.length ? `#${new URLSearchParams(set)}` : location.pathname + location.search);
    };
    const given = new URLSearchParams(location.hash.slice(1));
    for (const c of controls) {
      if (given.has(c.dataset.filter)) c.value = given.get(c.dataset.filter);
      c.addEventListener("input", apply);
    }
    apply();
  };

  const embedded = (id) => JSON.parse(document.getElementById(id)?.textContent || "{}");

  const copying = () => {
    for (const button of all("[data-copy]")) {
      button.addEventListener("click", async () => {
        const text = embedded("copies")[button.dataset.of][button.dataset.copy];
        const name = button.textContent;
        try {
          await navigator.clipboard.writeText(text);
        } catch {
          const area = document.createElement("textarea");
          area.value = text;
          document.body.append(area);
          area.select();
          document.execCommand("copy");
          area.remove();
        }
        button.textContent = "copied";
        setTimeout(() => { button.textContent = name; }, 1500);
      });
    }
  };

  // charts are pictures until asked; then one shared file draws them again with tooltips
  let bundle;
  const vega = () => bundle ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "../assets/vega.js";
    script.onload = resolve;
    script.onerror = () => reject(new Error("assets/vega.js is not beside this page"));
    document.head.append(script);
  });
  const charts = () => {
    for (const button of all("[data-chart]")) {
      button.addEventListener("click", async () => {
        button.disabled = true;
        const plot = button.closest("figure").querySelector(".plot");
        try {
          await vega();
          const place = document.createElement("div");
          await window.vegaEmbed(place, embedded("specs")[button.dataset.chart], { renderer: "svg", ast: true, actions: false });
          plot.replaceChildren(place);
          plot.dataset.live = "yes";
          button.textContent = "Interactive: point at the marks";
        } catch (error) {
          button.textContent = `Not interactive: ${error.message}`;
        }
      });
    }
  };

  // a link into something folded opens it; what belongs on paper is opened for the printer
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let e = target; e; e = e.parentElement) if (e.tagName === "DETAILS") e.open = true;
    target.scrollIntoView();
  };
  const printing = () => {
    let opened = [];
    addEventListener("beforeprint", () => { opened = all("details[data-print]:not([open])"); opened.forEach((d) => { d.open = true; }); });
    addEventListener("afterprint", () => opened.forEach((d) => { d.open = false; }));
  };

  document.addEventListener("DOMContentLoaded", () => {
    themes();
    all("table[data-sortable]").forEach(sortable);
    filters();
    copying();
    charts();
    printing();
    addEventListener("hashchange", reveal);
    reveal();
  });
})();
