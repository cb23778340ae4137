// Loaded into a package manager before anything of it (node --require), inside the install sandbox and as plain
// JavaScript on the sandbox's own Node. Package managers speak to a TCP port; the only way out is a unix socket. What
// they connect to SKIFF_MIRROR_PORT of the loopback goes to that socket instead, without a process between. Programs that
// packages start find the same at the port itself.
// Environment: SKIFF_MIRROR_PORT, SKIFF_MIRROR_SOCKET.
'use strict';
const net = require('node:net');

const port = Number(process.env.SKIFF_MIRROR_PORT);
const path = process.env.SKIFF_MIRROR_SOCKET;
const { connect } = net.Socket.prototype;

net.Socket.prototype.connect = function connectToMirror(...args) {
  // net.connect hands over [options, listener], everybody else the options themselves.
  const list = Array.isArray(args[0]) ? args[0] : args;
  const options = list[0];
  if (typeof options === 'object' && options !== null && Number(options.port) === port)
    list[0] = { ...options, path, port: undefined, host: undefined };
  return connect.apply(this, args);
};

const server = net.createServer({ allowHalfOpen: true }, (near) => {
  const far = net.connect({ path, allowHalfOpen: true });
  near.pipe(far).pipe(near);
  near.on('error', () => far.destroy());
  far.on('error', () => near.destroy());
});
server.on('error', () => {
  // A program of a package is the second one here: the first one's server answers for it.
});
server.listen(port, '127.0.0.1').unref();
