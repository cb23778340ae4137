/**
 * What is wrong with a request that the HTTP parser took. Pure. The parser itself refuses what could be read in two
 * ways (both lengths, bare line feeds, folded headers, blanks before colons): test/integration/gateway/smuggling.test.ts.
 */
import type { ErrorCode } from '../../sdk/protocol/errors.ts';
import { HEADERS_COUNT_MAX, URL_BYTES_MAX } from '../../sdk/protocol/limits.ts';

export interface RequestFault {
  readonly code: ErrorCode;
  readonly detail: string;
}

/** `rawHeaders` as node:http has them: name, value, name, value. */
export function tryFindFault(url: string, rawHeaders: readonly string[]): RequestFault | undefined {
  if (url.length > URL_BYTES_MAX) {
    return { code: 'URL_TOO_LONG', detail: `the URL has ${url.length} bytes; the limit is ${URL_BYTES_MAX}` };
  }
  const count = rawHeaders.length / 2;
  if (count > HEADERS_COUNT_MAX) {
    return {
      code: 'HEAD_TOO_LARGE',
      detail: `there are ${count} headers; the limit is ${HEADERS_COUNT_MAX}`,
    };
  }
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    // RFC 9112 §3.2: with two of them, we and whoever stands before us might each believe another.
    if (name.length === 4 && name.toLowerCase() === 'host' && ++hosts > 1) {
      return { code: 'BAD_REQUEST', detail: 'there is more than one Host header' };
    }
  }
  return undefined;
}
