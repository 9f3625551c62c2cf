// Reads [[tex, display], ...] from stdin; writes [{html} or {error}, ...]. Called by tools/site.py with the folder of KaTeX.
const katex = require(process.argv[2] + "/katex.js");
const render = ([tex, displayMode]) => {
  try {
    return { html: katex.renderToString(tex, { displayMode, throwOnError: true, strict: "ignore" }) };
  } catch (error) {
    return { error: error.message };
  }
};
const formulas = JSON.parse(require("fs").readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(formulas.map(render)));
