// Starts Swagger UI on the page of the API's documentation.
window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // no other host is asked to look at the schema
});
