// The page of a trace: mounts each run that is in its data, and follows it where it grows.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("eco-data").textContent);
  const runs = document.getElementById("eco-runs");
  const state = document.getElementById("eco-link-state");
  document.getElementById("eco-theme").replaceWith(EcoView.themeButton());
  runs.replaceChildren();
  const views = data.stories.map((story) => {
    const place = document.createElement("div");
    runs.append(place);
    const view = EcoView.mount(place, {images: data.images, live: Boolean(data.live)});
    view.append(story.frames, story.layout, story.run);
    return view;
  });
  if (data.live) {
    const words = {
      following: "Following the run",
      retrying: "Connection lost, trying again…",
      ended: "The run has ended",
    };
    EcoPage.follow(data.live, views, (now, why) => {
      state.textContent = why || words[now];
    });
  }
  window.ecoViews = views;
})();
