// Runs inside the install sandbox, as plain JavaScript on the sandbox's own Node. npm can only speak to a TCP port:
// this gives it one on the loopback of the sandbox's empty network and passes its bytes to the unix socket that is
// the only way out. Then it runs npm and ends as npm ended.
// Arguments: path of npm's cli, path of the socket, npm's arguments; {port} in them is replaced.
'use strict';
const { spawn } = require('node:child_process');
const net = require('node:net');

const [cli, socketPath, ...args] = process.argv.slice(2);

const server = net.createServer({ allowHalfOpen: true }, (near) => {
  const far = net.connect({ path: socketPath, allowHalfOpen: true });
  near.pipe(far).pipe(near);
  near.on('error', () => far.destroy());
  far.on('error', () => near.destroy());
});

server.listen(0, '127.0.0.1', () => {
  const port = String(server.address().port);
  const fill = (text) => text.replace('{port}', port);
  const env = Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, fill(value)]));
  const child = spawn(process.execPath, [cli, ...args.map(fill)], { stdio: 'inherit', env });
  child.on('exit', (code, signal) => process.exit(signal === null ? code : 128));
  child.on('error', (error) => {
    console.error(`npm could not be started: ${error.message}`);
    process.exit(127);
  });
});
