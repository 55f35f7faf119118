() => {
  // Gradio leaves some buttons without a name for screen readers.
  const name = () => {
    document.querySelectorAll("#examples button").forEach(
      (button, i) => button.setAttribute("aria-label", `Predict drawn example ${i + 1}`));
    document.querySelectorAll('[aria-label="common.upload"]').forEach(
      (button) => button.setAttribute("aria-label", "Drop other posters"));
  };
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
  name();
}
