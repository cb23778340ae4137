/**
 * Redis over HTTP: POST / with ["COMMAND", "argument", …] answers { result } or { error }; GET /subscribe/<channel> is a
 * stream of server-sent events. Redis itself listens on a unix socket that nothing outside of this sandbox reaches.
 */
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import { connect } from 'node:net';

const SOCKET = '/tmp/redis.sock';
const redis = spawn(
  '/opt/redis/bin/redis-server',
  [
    '--port',
    '0',
    '--unixsocket',
    SOCKET,
    '--save',
    '',
    '--appendonly',
    'no',
    '--dir',
    '/tmp',
    '--maxmemory',
    '128mb',
  ],
  { env: { LD_LIBRARY_PATH: '/opt/redis/lib' }, stdio: ['ignore', 'inherit', 'inherit'] },
);
redis.once('exit', (code) => process.exit(code ?? 1));
process.once('SIGTERM', () => redis.kill());

/** One whole reply at `at`, as { value, end }; undefined while more bytes are to come. */
function parse(buffer, at) {
  const lineEnd = buffer.indexOf('\r\n', at);
  if (lineEnd < 0) return undefined;
  const text = buffer.toString('utf8', at + 1, lineEnd);
  const next = lineEnd + 2;
  const type = String.fromCharCode(buffer[at]);
  if (type === '+') return { value: text, end: next };
  if (type === '-') return { value: new Error(text), end: next };
  if (type === ':') return { value: Number(text), end: next };
  const length = Number(text);
  if (length < 0) return { value: null, end: next };
  if (type === '$') {
    if (buffer.length < next + length + 2) return undefined;
    return { value: buffer.toString('utf8', next, next + length), end: next + length + 2 };
  }
  const value = [];
  let end = next;
  for (let i = 0; i < length; i++) {
    const item = parse(buffer, end);
    if (!item) return undefined;
    value.push(item.value);
    end = item.end;
  }
  return { value, end };
}

/** A connection: `send` writes a command, `onReply` gets every reply in order. */
function open(onReply) {
  const socket = connect(SOCKET);
  let pending = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    for (let reply = parse(pending, 0); reply; reply = parse(pending, 0)) {
      pending = pending.subarray(reply.end);
      onReply(reply.value);
    }
  });
  const send = (command) => {
    const parts = command.map((part) => Buffer.from(String(part)));
    socket.write(`*${parts.length}\r\n`);
    for (const part of parts)
      socket.write(Buffer.concat([Buffer.from(`$${part.length}\r\n`), part, Buffer.from('\r\n')]));
  };
  return { socket, send };
}

let shared;
const waiting = [];
function command(words) {
  if (!shared) {
    shared = open((value) => waiting.shift()?.(value));
    shared.socket.once('error', () => {});
    shared.socket.once('close', () => {
      shared = undefined;
      for (const settle of waiting.splice(0)) settle(new Error('redis is not there'));
    });
  }
  return new Promise((resolve) => {
    waiting.push(resolve);
    shared.send(words);
  });
}

async function readJson(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
}

function answer(response, status, value) {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

const server = createServer(async (request, response) => {
  try {
    const { pathname } = new URL(request.url, 'http://redis');
    if (pathname === '/health') {
      const pong = await command(['PING']);
      return answer(response, pong === 'PONG' ? 200 : 503, { pong: String(pong) });
    }
    if (pathname.startsWith('/subscribe/')) {
      const { socket, send } = open(([kind, , text]) => {
        if (kind === 'subscribe')
          response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
        else response.write(`data: ${text}\n\n`);
      });
      send(['SUBSCRIBE', decodeURIComponent(pathname.slice('/subscribe/'.length))]);
      socket.on('error', () => response.destroy());
      return response.on('close', () => socket.destroy());
    }
    const words = await readJson(request);
    if (!Array.isArray(words) || words.length === 0)
      return answer(response, 400, { error: 'send a list of words' });
    const result = await command(words);
    if (result instanceof Error) answer(response, 400, { error: result.message });
    else answer(response, 200, { result });
  } catch (error) {
    if (!response.headersSent) answer(response, 400, { error: error.message });
  }
});
server.listen(Number(process.env.PORT));
