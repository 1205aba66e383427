"use strict";
// The language switch of a page.
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
})();
