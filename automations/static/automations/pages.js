// All that the pages need besides htmx. Everything works without it, less conveniently.
"use strict";

// The server writes times in the zone of this cookie, unless another was chosen.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `zone=${zone}; path=/; max-age=31536000; samesite=lax${secure}`;
}

// A choice takes effect at once; the button beside it is for who has no script.
for (const select of document.querySelectorAll("select[data-submits]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
  select.form.querySelector("[data-without-script]")?.setAttribute("hidden", "");
}

// Nobody looks at a hidden tab: it does not ask.
const isPoll = (event) => event.detail.requestConfig?.verb === "get" || event.detail.triggeringEvent == null;
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && isPoll(event)) event.preventDefault();
});

const offline = document.getElementById("offline");
function showOffline(is) {
  document.documentElement.classList.toggle("is-offline", is);
  if (offline.hidden === is) offline.hidden = !is;
}
document.addEventListener("htmx:sendError", () => showOffline(true));
document.addEventListener("htmx:responseError", () => showOffline(true));
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (event.detail.xhr.status < 400) showOffline(false);
});
