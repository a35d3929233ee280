"use strict";
(() => {
  const pictures = JSON.parse(document.getElementById("pictures").textContent);
  const plots = [...document.querySelectorAll("[data-picture]")];
  const root = document.documentElement;

  const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const faint = (hex) => `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16))}, .15)`;
  const colour = (name) => {
    if (name.endsWith("scale")) return [0, 1, 2].map((i) => [i / 2, css(`${name}-${i}`)]);
    return name.endsWith("-faint") ? faint(css(name.slice(0, -6))) : css(name);
  };

  // Charts name their colours, {"css": NAME}; the theme decides what they are.
  const paint = (value) => {
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(paint);
    if (value === null || typeof value !== "object") return value;
    if (typeof value.css === "string") return colour(value.css);
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, paint(inner)]));
  };

  const axis = (own) => ({
    gridcolor: css("grid"), linecolor: css("rule"), zeroline: false, automargin: true,
    tickfont: { size: 11 }, ...own,
    title: { standoff: 8, font: { size: 12 }, ...(own.title || {}) },
  });

  const layout = (own, width) => ({
    height: 300, showlegend: false, hovermode: "closest",
    ...own,
    ...(width ? { width, autosize: false } : { autosize: true }),
    xaxis: axis(own.xaxis || {}), yaxis: axis(own.yaxis || {}),
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, -apple-system, Segoe UI, Roboto, Arial, sans-serif", size: 12, color: css("text") },
    margin: { l: 48, r: 12, t: 18, b: 40 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("grey"), activecolor: css("text") },
    legend: { traceorder: "normal", orientation: "h", y: 1.02, yanchor: "bottom", x: 0, ...(own.legend || {}) },
    hoverlabel: { bgcolor: css("card"), bordercolor: css("rule"), font: { color: css("text") } },
  });

  const options = {
    displaylogo: false, displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
    responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  };

  const draw = (width) => plots.forEach((plot) => {
    const chart = paint(pictures[plot.dataset.picture]);
    Plotly.react(plot, chart.data, layout(chart.layout, width && width(plot)), options);
  });
  draw();

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());

  // Paper is light, and narrower than a window: A4 less its margins is about 688 CSS pixels.
  let wereOpen = [];
  addEventListener("beforeprint", () => {
    root.classList.add("paper");
    wereOpen = [...document.querySelectorAll("details:not([open])")];
    wereOpen.forEach((details) => { details.open = true; });
    draw((plot) => {
      const columns = plot.closest(".columns-3") ? 3 : plot.closest(".columns-2") ? 2 : 1;
      return Math.floor((688 - 26 * (columns - 1)) / columns);
    });
  });
  addEventListener("afterprint", () => {
    root.classList.remove("paper");
    wereOpen.forEach((details) => { details.open = false; });
    draw();
  });

  document.querySelectorAll("[data-copies]").forEach((button) => {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copies);
      try {
        await navigator.clipboard.writeText(source.textContent);
      } catch {
        getSelection().selectAllChildren(source);  // a page opened from a file may not write
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  });
})();
