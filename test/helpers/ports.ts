/** Ports that nobody listens on. The kernel picks them, so runs beside each other get different ones. */
import { once } from 'node:events';
import { createServer } from 'node:net';

export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    ports.push((server.address() as { port: number }).port);
  }
  // All are held until all are known: the same one is not given twice.
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
