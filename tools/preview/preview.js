// Search over a local index, and the chapter list on small screens. No requests except to files beside this one.
(() => {
  const root = document.currentScript.dataset.root;
  const field = document.getElementById("search"), results = document.getElementById("results");
  const menu = document.getElementById("menu"), sidebar = document.getElementById("sidebar");
  const words = (s) => s.toLowerCase().normalize("NFKD").match(/[\p{L}\p{N}_]+/gu) || [];
  let loading;

  menu.addEventListener("click", () => menu.setAttribute("aria-expanded", sidebar.classList.toggle("open")));

  // What scrolls sideways must be reachable by keyboard, and only that.
  const scrollers = () => document.querySelectorAll("main pre, .katex-display, math[display=block], .table").forEach((box) =>
    box.scrollWidth > box.clientWidth ? box.setAttribute("tabindex", "0") : box.removeAttribute("tabindex"));
  new ResizeObserver(scrollers).observe(document.body);

  // The index is a script, because a page opened from a file may not fetch one.
  const index = () => loading ||= new Promise((done, fail) => {
    const script = document.createElement("script");
    Object.assign(script, { src: root + "search.js", onload: () => done(window.SEARCH), onerror: fail });
    document.head.append(script);
  });

  const score = (entry, terms) => {
    let total = 0;
    for (const term of terms) {
      const heading = entry.heading.toLowerCase(), page = entry.page.toLowerCase(), text = entry.text.toLowerCase();
      const points = (heading === term) * 20 + heading.includes(term) * 8 + page.includes(term) * 4 + text.includes(term);
      if (!points) return 0;
      total += points;
    }
    return total;
  };

  const excerpt = (text, term) => {
    const at = Math.max(0, text.toLowerCase().indexOf(term) - 40);
    return (at ? "…" : "") + text.slice(at, at + 120) + "…";
  };

  async function search() {
    const terms = words(field.value), entries = terms.length ? await index() : [];
    const found = entries.map((e) => [score(e, terms), e]).filter(([s]) => s).sort((a, b) => b[0] - a[0]).slice(0, 12);
    results.replaceChildren(...found.map(([, entry]) => {
      const item = document.createElement("li"), link = document.createElement("a"), note = document.createElement("span");
      link.href = root + entry.url;
      link.textContent = entry.heading && entry.heading !== entry.page ? `${entry.page}: ${entry.heading}` : entry.page;
      note.textContent = excerpt(entry.text, terms[0]);
      link.append(note);
      item.append(link);
      return item;
    }));
    if (terms.length && !found.length) results.append(Object.assign(document.createElement("li"), { textContent: "Nothing found." }));
    results.hidden = !terms.length;
  }

  const links = () => [field, ...results.querySelectorAll("a")];
  const close = () => { results.hidden = true; };
  const step = (by) => {
    const all = links(), at = all.indexOf(document.activeElement);
    if (at >= 0) all[(at + by + all.length) % all.length].focus();
  };
  field.addEventListener("input", search);
  document.addEventListener("keydown", (event) => {
    const inside = event.target.closest?.(".search"), typing = event.target.matches?.("input, textarea, select");
    if (event.key === "/" && !typing) { event.preventDefault(); field.focus(); }
    if (event.key === "Escape" && inside) { close(); field.focus(); }
    if (inside && event.key === "ArrowDown") { event.preventDefault(); step(1); }
    if (inside && event.key === "ArrowUp") { event.preventDefault(); step(-1); }
    if (inside && event.key === "Enter" && event.target === field) results.querySelector("a")?.click();
  });
  results.addEventListener("click", close);
  document.addEventListener("click", (event) => { if (!event.target.closest(".search")) close(); });
})();
