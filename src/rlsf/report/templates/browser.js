(() => {
  "use strict";
  const root = document.getElementById("traces");
  if (!root) return;
  root.classList.add("interactive");
  const panels = [...root.querySelectorAll("details.question")];
  const links = [...root.querySelectorAll(".questions a")];
  const list = root.querySelector(".questions");
  const readout = root.querySelector(".readout");

  const show = (index) => {
    panels.forEach((panel, place) => {
      panel.hidden = place !== index;
      if (place === index) panel.open = true;
    });
    links.forEach((link, place) => {
      if (place === index) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
    list.scrollTop = links[index].offsetTop - list.clientHeight / 3;
    readout.hidden = true;
  };
  const wanted = () => Math.max(0, panels.findIndex((panel) => "#" + panel.id === location.hash));

  links.forEach((link, index) => {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      show(index);
    });
    link.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const next = step && links[index + step];
      if (!next) return;
      event.preventDefault();
      next.focus();
      next.click();
    });
  });
  panels.forEach((panel) => {
    panel.querySelector("summary").addEventListener("click", (event) => event.preventDefault());
  });
  root.querySelectorAll('input[name="shade"]').forEach((input) => {
    input.addEventListener("change", () => {
      root.classList.remove("by-p", "by-d", "by-e");
      root.classList.add("by-" + input.value);
    });
  });
  const read = (event) => {
    const token = event.target.closest(".tokens .t");
    if (!token) return;
    readout.hidden = false;
    readout.textContent = "\u201c" + token.textContent.trim() + "\u201d  " + token.title;
  };
  root.addEventListener("pointerover", read);
  root.addEventListener("click", read);
  window.addEventListener("hashchange", () => show(wanted()));
  show(wanted());
  if (location.hash.startsWith("#question-")) panels[wanted()].scrollIntoView();
})();
