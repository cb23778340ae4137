/** A chat room: what is posted to /messages reaches everybody who listens to /events, however many sandboxes there are. */
import type { FunctionContext } from 'skiff';

const KEPT = 50;
const room = process.env['ROOM'] ?? 'lobby';

/** One Redis command, over the HTTP front of the service. */
async function redis<Result>(...command: string[]): Promise<Result> {
  const response = await fetch('http://redis.skiff/', { method: 'POST', body: JSON.stringify(command) });
  if (!response.ok) throw new Error(`redis ${command[0]}: ${response.status} ${await response.text()}`);
  return ((await response.json()) as { result: Result }).result;
}

async function say(request: Request, context: FunctionContext): Promise<Response> {
  const { name, text } = (await request.json()) as { name?: unknown; text?: unknown };
  if (typeof name !== 'string' || typeof text !== 'string' || text.trim() === '' || text.length > 2_000)
    return Response.json(
      { error: 'a message has a name, and a text of at most 2000 characters' },
      { status: 422 },
    );
  const message = JSON.stringify({ name: name.slice(0, 40), text, at: new Date().toISOString() });
  await redis('RPUSH', `history:${room}`, message);
  await redis('LTRIM', `history:${room}`, String(-KEPT), '-1');
  const listeners = await redis<number>('PUBLISH', `room:${room}`, message);
  context.log.info('said', { name, listeners });
  return Response.json({ listeners }, { status: 201 });
}

/** What was said lately, and then what is said, until the listener leaves. */
async function listen(request: Request): Promise<Response> {
  const live = await fetch(`http://redis.skiff/subscribe/${encodeURIComponent(`room:${room}`)}`, {
    signal: request.signal,
  });
  const history = await redis<string[]>('LRANGE', `history:${room}`, '0', '-1');
  const encoder = new TextEncoder();
  const body = live.body?.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      start(controller) {
        for (const message of history) controller.enqueue(encoder.encode(`data: ${message}\n\n`));
      },
    }),
  );
  return new Response(body, {
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store' },
  });
}

const PAGE = `<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Chat</title>
<style>body{font:16px system-ui;max-width:40rem;margin:2rem auto;padding:0 1rem}li{list-style:none;margin:.4rem 0}ul{padding:0}
form{display:flex;gap:.5rem}input{font:inherit;padding:.4rem}input[name=text]{flex:1}</style>
<h1>Chat</h1><ul></ul>
<form><input name="name" aria-label="name" title="name" size="10" required><input name="text" aria-label="message" title="message" required autofocus></form>
<script>
const list = document.querySelector('ul'), form = document.querySelector('form');
const base = location.pathname.replace(/\\/$/, '');
new EventSource(base + '/events').onmessage = ({ data }) => {
  const { name, text } = JSON.parse(data), item = document.createElement('li'), who = document.createElement('b');
  who.textContent = name + ' ';
  item.append(who, text);
  list.append(item);
};
form.onsubmit = async (event) => {
  event.preventDefault();
  const { name, text } = form.elements;
  await fetch(base + '/messages', { method: 'POST', body: JSON.stringify({ name: name.value, text: text.value }) });
  text.value = '';
};
form.addEventListener('keydown', ({ key }) => key === 'Enter' && form.requestSubmit());
</script>`;

export default async (request: Request, context: FunctionContext): Promise<Response> => {
  const { pathname } = new URL(request.url);
  if (request.method === 'POST' && pathname === '/messages') return say(request, context);
  if (pathname === '/events') return listen(request);
  if (pathname === '/')
    return new Response(PAGE, { headers: { 'content-type': 'text/html; charset=utf-8' } });
  return new Response('nothing here\n', { status: 404 });
};
