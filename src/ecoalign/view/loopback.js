// What pages of the loopback server share: the token of their address, and answers line by line.
const EcoPage = (() => {
  "use strict";
  const KEY = "ecoalign-token";

  // The token comes in the fragment, which is sent to nobody. It is kept for this tab, so that the
  // page can be reloaded, and taken out of the address at once.
  function take() {
    const given = location.hash.slice(1);
    if (!/^[\w-]{32}$/.test(given)) return false;
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
    return true;
  }
  take();
  addEventListener("hashchange", () => {
    if (take()) location.reload();
  });

  const headers = () => ({Authorization: `Bearer ${sessionStorage.getItem(KEY) || ""}`});

  // The objects of an answer, one a line, as they come.
  async function* lines(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) yield JSON.parse(part);
    }
  }

  // What went wrong, {type, message}, where an answer is not OK.
  async function problem(response) {
    try {
      return (await response.json()).error;
    } catch {
      return {type: "Refused", message: `The server answered with status ${response.status}.`};
    }
  }

  // Hands what is new in some runs to their views, and says how it goes; begins again where the
  // connection is lost.
  async function follow(url, views, said) {
    const show = (news) => {
      if (news.images) for (const one of views) one.setImages(news.images);
      const view = views[news.story];
      if (!view) return;
      if (news.reset) view.reset();
      if (news.error) said("broken", news.error);
      if (news.frames) view.append(news.frames, news.layout, news.run);
      if (news.finished !== undefined) view.live(!news.finished);
    };
    for (let waits = 250; ; waits = Math.min(2 * waits, 8000)) {
      try {
        const response = await fetch(url, {headers: headers()});
        if (!response.ok) {
          said("refused", (await problem(response)).message);
          return;
        }
        said("following");
        for await (const news of lines(response)) {
          if (news.ended) {
            said("ended");
            return;
          }
          waits = 250;
          show(news);
        }
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // no failure of the connection
      }
      said("retrying");
      await new Promise((again) => setTimeout(again, waits));
    }
  }

  return {headers, lines, problem, follow};
})();
