// Processes that do nothing but pass bytes on, in the places of a gateway, a runner and a sandbox: what a call costs before
// anybody does any work for it. `node chain.mjs <role> …`, one call at a time.
import { createServer } from 'node:http';
import { connect, createServer as listen } from 'node:net';

const ANSWER = 'x'.repeat(200);
const CALL = 'y'.repeat(600);
const PUSH = `*3\r\n$5\r\nLPUSH\r\n$5\r\ncalls\r\n$${CALL.length}\r\n${CALL}\r\n`;
const POP = '*3\r\n$5\r\nBLPOP\r\n$5\r\ncalls\r\n$1\r\n0\r\n';

function answerEach(port, send, back) {
  const waiting = [];
  back.on('data', () => {
    const response = waiting.shift();
    response.writeHead(200, { 'content-type': 'text/plain', 'content-length': '5' });
    response.end('hello', 'latin1');
  });
  createServer((_request, response) => {
    waiting.push(response);
    send();
  }).listen(Number(port), '127.0.0.1');
}

const ROLES = {
  /** Listens at `path`. */
  sandbox(path) {
    listen((socket) => socket.on('error', () => {}).on('data', () => socket.write(ANSWER))).listen(path);
  },
  /** From `path` to `sandbox` and back. */
  runner(path, sandbox) {
    const guest = connect(sandbox);
    listen((socket) => {
      guest.on('data', (chunk) => socket.write(chunk));
      socket.on('error', () => {}).on('data', (chunk) => guest.write(chunk));
    }).listen(path);
  },
  /** From Redis to `sandbox`, and its answers to who has connected to `path`. */
  'queue-runner'(path, sandbox, redis) {
    const guest = connect(sandbox);
    const queue = connect(redis);
    queue.on('data', (chunk) => {
      queue.write(POP);
      guest.write(chunk);
    });
    queue.write(POP);
    listen((socket) => {
      socket.on('error', () => {});
      guest.on('data', (chunk) => socket.write(chunk));
    }).listen(path);
  },
  gateway(port, runner) {
    const link = connect(runner);
    answerEach(port, () => link.write(CALL), link);
  },
  'queue-gateway'(port, runner, redis) {
    const queue = connect(redis).on('data', () => {});
    answerEach(port, () => queue.write(PUSH), connect(runner));
  },
};

const [role, ...args] = process.argv.slice(2);
ROLES[role](...args);
