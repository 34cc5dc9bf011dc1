// Of the player: uploads, examples, and clicks that seek. `element`, `trigger` are gradio's.
const video = element.querySelector("video");
const input = element.querySelector("input[type=file]");
const drop = element.querySelector(".drop");
const note = element.querySelector(".upload-note");
let blobUrl = "";
let uploading = null; // The request of the upload that runs.

function say(text, isError) {
  note.textContent = text;
  note.classList.toggle("error", Boolean(isError));
}

function show(url) {
  if (blobUrl) URL.revokeObjectURL(blobUrl);
  blobUrl = url.startsWith("blob:") ? url : "";
  video.src = url;
  element.classList.add("has-video");
}

function failure(request) {
  try {
    return JSON.parse(request.responseText).error.message;
  } catch {
    return `The upload failed (${request.status || "no connection"}).`;
  }
}

// Ends the upload of a video when another one is chosen.
function endUpload() {
  if (uploading) uploading.abort();
  uploading = null;
}

function upload(file) {
  endUpload();
  const form = new FormData();
  form.append("purpose", "user_data");
  form.append("file", file);
  const request = new XMLHttpRequest();
  uploading = request;
  request.open("POST", "v1/files");
  request.upload.onprogress = (event) => {
    if (event.lengthComputable) {
      say(`Uploading ${file.name}: ${Math.round((100 * event.loaded) / event.total)} %`);
    }
  };
  request.onerror = () => say(failure(request), true);
  request.onload = () => {
    if (request.status >= 400) {
      say(failure(request), true);
      return;
    }
    say("");
    show(URL.createObjectURL(file)); // Not before: questions are about the video that is shown.
    const id = JSON.parse(request.responseText).id;
    trigger("chosen", { kind: "upload", key: id, name: file.name });
  };
  say(`Uploading ${file.name} …`);
  request.send(form);
}

input.addEventListener("change", () => {
  if (input.files.length) upload(input.files[0]);
  input.value = "";
});
for (const name of ["dragover", "drop", "dragleave"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });
}
element.addEventListener("click", (event) => {
  const example = event.target.closest("[data-example]");
  if (!example) return;
  const number = example.dataset.example;
  endUpload();
  say("");
  show(`page/examples/${number}`);
  trigger("chosen", { kind: "example", key: number, name: "" });
});
video.addEventListener("error", () => {
  if (video.src) say("This browser cannot play the file. Questions about it may still work.");
});

// Anywhere on the page, a click on something with a time moves the player there.
document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-seconds]");
  const line = event.target.closest(".filax-strip .line");
  let seconds = null;
  if (target) {
    seconds = Number(target.dataset.seconds);
  } else if (line) {
    const box = line.getBoundingClientRect();
    const duration = Number(line.closest(".filax-strip").dataset.duration);
    seconds = (duration * (event.clientX - box.left)) / box.width;
  }
  if (seconds === null) return;
  video.currentTime = seconds + 0.002; // A little later: that frame, not the one before it.
  const top = video.getBoundingClientRect().top;
  if (top < 0 || top > window.innerHeight) {
    video.scrollIntoView({ behavior: "smooth", block: "center" });
  }
});
video.addEventListener("timeupdate", () => {
  const strip = document.querySelector(".filax-strip");
  if (!strip) return;
  const share = video.currentTime / Math.max(Number(strip.dataset.duration), 0.001);
  strip.style.setProperty("--playhead", `${(100 * Math.min(share, 1)).toFixed(2)}%`);
});
