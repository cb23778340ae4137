/**
 * Ends connections whose client does not do its part: one that stops sending the body it announced before it was
 * answered, or stops taking the answer. Invariant: a client that waits for a slow function is never ended here, nor
 * one whose body we do not want yet (nobody reads it then). A request costs one look-up and two assignments: what is
 * looked at belongs to its connection, and is looked at by the clock alone.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

interface Watched {
  /** Of the connection's last request, until it is seen to be over. */
  response: ServerResponse | undefined;
  bytesRead: number;
  bytesWritten: number;
  /** Since when neither number has changed. */
  stillSinceMs: number;
}

const UNKNOWN = -1;

export class StallGuard {
  readonly #stallMsMax: number;
  readonly #watched = new Map<Socket, Watched>();

  constructor(stallMsMax: number) {
    this.#stallMsMax = stallMsMax;
  }

  /** Looks every `everyMs` until the server closes. */
  attach(server: Server, everyMs: number): void {
    server.on('connection', (socket: Socket) => {
      this.#watched.set(socket, {
        response: undefined,
        bytesRead: UNKNOWN,
        bytesWritten: UNKNOWN,
        stillSinceMs: 0,
      });
      socket.once('close', () => this.#watched.delete(socket));
    });
    const timer = setInterval(() => this.sweep(Date.now()), everyMs);
    timer.unref();
    server.once('close', () => clearInterval(timer));
  }

  /** From the next look on. */
  watch(request: IncomingMessage, response: ServerResponse): void {
    const watched = this.#watched.get(request.socket);
    if (!watched) return;
    watched.response = response;
    watched.bytesRead = UNKNOWN;
  }

  sweep(now: number): void {
    for (const [socket, watched] of this.#watched) {
      const { response } = watched;
      if (!response) continue;
      const { bytesRead, bytesWritten } = socket;
      if (response.closed) watched.response = undefined;
      else if (
        bytesRead !== watched.bytesRead ||
        bytesWritten !== watched.bytesWritten ||
        !isClientsTurn(socket, response)
      ) {
        watched.bytesRead = bytesRead;
        watched.bytesWritten = bytesWritten;
        watched.stillSinceMs = now;
      } else if (now - watched.stillSinceMs >= this.#stallMsMax) socket.destroy();
    }
  }
}

function isClientsTurn(socket: Socket, response: ServerResponse): boolean {
  const request: IncomingMessage = response.req;
  const owesBody = !request.complete && request.readableFlowing === true && !response.headersSent;
  return owesBody || socket.writableLength > 0;
}
