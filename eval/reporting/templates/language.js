"use strict";
// The language switch of a page, and the names of columns for tables whose cells a narrow screen stacks.
(function () {
  const root = document.documentElement;

  function speak(language) {
    root.dataset.lang = language;
    root.lang = language === "zh" ? "zh-CN" : "en";
    for (const button of document.querySelectorAll(".switch button")) {
      button.setAttribute("aria-pressed", String(button.dataset.lang === language));
    }
    for (const option of document.querySelectorAll("option[data-zh]")) option.textContent = option.dataset[language];
  }
  for (const button of document.querySelectorAll(".switch button")) {
    button.addEventListener("click", () => speak(button.dataset.lang));
  }

  // The text of a heading in one language.
  function named(heading, other) {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll("." + other).forEach((part) => part.remove());
    return copy.textContent.trim();
  }
  for (const table of document.querySelectorAll(".scroll > table:not(.confusion)")) {
    table.classList.add("stacked");
    for (const body of table.tBodies) {
      const headings = body.previousElementSibling.rows[0].cells;
      for (const cell of [...body.rows].flatMap((row) => [...row.cells])) {
        const heading = headings[cell.cellIndex];
        cell.dataset.zh = named(heading, "en");
        cell.dataset.en = named(heading, "zh");
      }
    }
  }
})();
