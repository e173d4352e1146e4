// A form with data-filters="ID" searches while somebody types: the part of the page with that id is
// replaced by the same part of the answer. Without this script the form's button does it.
"use strict";
for (const form of document.querySelectorAll("form[data-filters]")) {
  const id = form.dataset.filters;
  let waiting, running;
  const search = async () => {
    running?.abort();
    running = new AbortController();
    const query = new URLSearchParams(new FormData(form));
    const address = `${form.action.split("#")[0]}?${query}`;
    try {
      const answer = await fetch(address, { signal: running.signal });
      const part = new DOMParser()
        .parseFromString(await answer.text(), "text/html")
        .getElementById(id);
      if (answer.ok && part) {
        document.getElementById(id).replaceWith(part);
        history.replaceState(null, "", address);
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  };
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(search, 150);
  });
}
