// The bare app for a container without a network: fetches its own first byte and says when that was.
import { connect } from 'node:net';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';

const app = new Hono();
app.get('*', (context) => context.text('hello'));
const port = Number(process.env.PORT);
serve({ fetch: app.fetch, port, hostname: '127.0.0.1' }, () => {
  const socket = connect(port, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nhost: bench\r\n\r\n'));
  socket.once('data', () => {
    console.log(`first byte at ${performance.timeOrigin + performance.now()}`);
    process.exit(0);
  });
});
