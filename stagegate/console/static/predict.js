// A picture that is dropped on the form is chosen, and sent.

const form = document.querySelector("form.drop");
const input = form.querySelector('input[type="file"]');
const isOver = (over) => form.classList.toggle("over", over);

form.addEventListener("dragover", (event) => {
  event.preventDefault();
  isOver(true);
});
form.addEventListener("dragleave", () => isOver(false));
form.addEventListener("drop", (event) => {
  event.preventDefault();
  isOver(false);
  if (!event.dataTransfer.files.length) return;
  input.files = event.dataTransfer.files;
  form.requestSubmit();
});
