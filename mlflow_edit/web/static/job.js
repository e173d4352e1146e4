// Looks again at a job until it is over. Without scripts the page does so by reloading itself.
const look = async () => {
  const answer = await fetch(location.href, { credentials: "same-origin" }).catch(() => null);
  const text = answer ? await answer.text() : "";
  const found = new DOMParser().parseFromString(text, "text/html").querySelector("[data-working]");
  if (answer && !found) return location.reload();
  if (found) document.querySelector("[data-working]").replaceWith(found);
  return setTimeout(look, 1000);
};
setTimeout(look, 500);
