// Draws the interactive charts of a page once one of them comes near the screen; until then, and without scripts, the
// static picture stands in their place.
(() => {
  const here = document.currentScript.src;
  const charts = [...document.querySelectorAll(".econ-chart")];
  if (!charts.length) return;
  let library;
  const load = () =>
    (library ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL("vega-bundle.js", here);
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    }));
  const draw = async (chart) => {
    await load();
    const spec = JSON.parse(chart.querySelector("script").textContent);
    const place = document.createElement("div");
    place.style.width = "100%";
    chart.replaceChildren(place);
    await vegaEmbed(place, spec, { actions: false, renderer: "svg" });
    chart.dataset.drawn = "true";
  };
  const seen = new IntersectionObserver(
    (entries) =>
      entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
        seen.unobserve(entry.target);
        draw(entry.target);
      }),
    { rootMargin: "200px" },
  );
  charts.forEach((chart) => seen.observe(chart));
})();
