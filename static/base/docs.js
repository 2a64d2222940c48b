// Starts Swagger UI on the page of the API's documentation, light or dark as the page is.
const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const follow = () =>
  root.classList.toggle("dark-mode", (root.dataset.theme ?? (system.matches ? "dark" : "")) === "dark");
follow();
system.addEventListener("change", follow);
new MutationObserver(follow).observe(root, { attributeFilter: ["data-theme"] });

window.SwaggerUIBundle({
  url: document.getElementById("swagger-ui").dataset.schema,
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // or another host would be asked to check the schema
});
