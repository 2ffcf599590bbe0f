// A SocialHub client that polls as browsers do: fetch, a cursor, and each poll aborted for the next one after a while.
// Writes each event as a line. node poller.mjs <address> <user> <token> <milliseconds before a poll is aborted>
const [address, user, token, patience] = process.argv.slice(2);
let last = 0;

for (;;) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), Number(patience));
  try {
    const url = `${address}/api/v1/realtime/poll?user_id=${user}&last_poll_id=${last}&timeout=30`;
    const answer = await fetch(url, { headers: { authorization: `Bearer ${token}` }, signal: abort.signal });
    if (answer.ok) {
      const { events, last_poll_id } = await answer.json();
      // What was aborted while it arrived is not taken in.
      last = last_poll_id;
      for (const event of events) console.log(JSON.stringify(event));
    } else {
      await answer.text();
      await new Promise((done) => setTimeout(done, 50));
    }
  } catch {
    // Aborted, or the node died: the same cursor is asked again.
  } finally {
    clearTimeout(timer);
  }
}
