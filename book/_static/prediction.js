// A prediction: its answers become buttons; choosing one, or skipping, lifts the veil (book.css) of the figure after it.
// The build has marked the right answers, and as many figures as predictions, in the same order.
document.addEventListener("DOMContentLoaded", () => {
  const make = (name, properties) => Object.assign(document.createElement(name), properties);
  const veiled = document.querySelectorAll("figure.veiled");
  document.querySelectorAll(".prediction.choices").forEach((prediction, index) => {
    const list = prediction.querySelector("ol");
    const answer = prediction.querySelector("details");
    const group = make("div", { role: "group", ariaLabel: "Your prediction" });
    const skip = make("button", { type: "button", className: "prediction-skip", textContent: "Skip" });
    const verdict = make("p", { role: "status", className: "prediction-verdict" });
    list.replaceWith(group);
    group.append(list, skip);
    group.after(verdict);

    const reveal = () => {
      skip.remove();
      for (const part of [prediction, veiled[index]]) part.classList.add("revealed");
    };
    skip.addEventListener("click", () => {
      reveal();
      answer.querySelector("summary").focus();
    });
    const right = 1 + [...list.children].findIndex((item) => item.matches(".right"));
    const buttons = [...list.children].map((item) => {
      const button = make("button", { type: "button" });
      button.append(...item.firstElementChild.childNodes);
      item.replaceChildren(button);
      button.addEventListener("click", () => {
        if (button.ariaDisabled) return;
        for (const other of buttons) other.ariaDisabled = "true";
        button.ariaPressed = "true";
        verdict.textContent = item.matches(".right") ? "✓ Right." : `✗ No, it is answer ${right}.`;
        answer.open = true;
        reveal();
      });
      return button;
    });
  });
});
// a formula can be reached by keyboard, for its menu; inside a button it must not
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  document.querySelectorAll(".prediction button mjx-container").forEach((formula) => formula.removeAttribute("tabindex"));
});
