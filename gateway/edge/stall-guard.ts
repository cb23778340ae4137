/**
 * Ends connections whose client does not do its part: one that stops sending the body it announced before it was
 * answered, or stops taking the answer. Invariant: a client that waits for a slow function is never ended here, nor
 * one whose body we do not want yet (nobody reads it then).
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  bytesRead: number;
  bytesWritten: number;
  /** Since when neither number has changed. */
  stillSinceMs: number;
}

export class StallGuard {
  readonly #stallMsMax: number;
  readonly #exchanges = new Map<Socket, Exchange>();
  /** One for all: a closure for each request would be the greater part of what watching costs. */
  readonly #onClose: (this: ServerResponse) => void;

  constructor(stallMsMax: number) {
    this.#stallMsMax = stallMsMax;
    const exchanges = this.#exchanges;
    this.#onClose = function onClose() {
      const { socket } = this.req;
      if (exchanges.get(socket)?.request === this.req) exchanges.delete(socket);
    };
  }

  /** Looks every `everyMs` until the server closes. */
  attach(server: Server, everyMs: number): void {
    const timer = setInterval(() => this.sweep(Date.now()), everyMs);
    timer.unref();
    server.once('close', () => clearInterval(timer));
  }

  watch(request: IncomingMessage, response: ServerResponse, now: number): void {
    const { socket } = request;
    const { bytesRead, bytesWritten } = socket;
    this.#exchanges.set(socket, { request, response, bytesRead, bytesWritten, stillSinceMs: now });
    response.on('close', this.#onClose);
  }

  sweep(now: number): void {
    for (const [socket, exchange] of this.#exchanges) {
      const { bytesRead, bytesWritten } = socket;
      if (
        bytesRead !== exchange.bytesRead ||
        bytesWritten !== exchange.bytesWritten ||
        !isClientsTurn(socket, exchange)
      ) {
        exchange.bytesRead = bytesRead;
        exchange.bytesWritten = bytesWritten;
        exchange.stillSinceMs = now;
      } else if (now - exchange.stillSinceMs >= this.#stallMsMax) {
        socket.destroy();
        this.#exchanges.delete(socket);
      }
    }
  }
}

function isClientsTurn(socket: Socket, { request, response }: Exchange): boolean {
  const owesBody = !request.complete && request.readableFlowing === true && !response.headersSent;
  return owesBody || socket.writableLength > 0;
}
