import { describe, expect, test } from 'vitest';
import {
  cloudEventKey,
  cloudEventMode,
  parseCloudEvents,
} from '../../../gateway/events/accept/cloud-events.ts';

const EVENT = { specversion: '1.0', id: 'a-1', source: '/orders', type: 'order.paid' };
const binary = (event: object) => {
  const [only] = parseCloudEvents('structured', Buffer.from(JSON.stringify(event)));
  return { headers: Object.fromEntries(only?.headers ?? []), body: only?.body.toString() };
};

describe('modes', () => {
  test.each([
    [{ 'content-type': 'application/cloudevents+json; charset=utf-8' }, 'structured'],
    [{ 'content-type': 'Application/CloudEvents-Batch+JSON' }, 'batch'],
    [{ 'ce-id': '1', 'ce-source': 's', 'ce-specversion': '1.0', 'ce-type': 't' }, 'binary'],
    [{ 'ce-id': '1', 'content-type': 'application/json' }, undefined],
    [{}, undefined],
  ])('%j is %s', (headers, mode) => expect(cloudEventMode(headers)).toBe(mode));
});

describe('structured becomes binary', () => {
  test('attributes are ce- headers, extensions too; JSON data is the body', () => {
    expect(binary({ ...EVENT, tenant: 7, data: { n: 1 } })).toEqual({
      headers: {
        'ce-specversion': '1.0',
        'ce-id': 'a-1',
        'ce-source': '/orders',
        'ce-type': 'order.paid',
        'ce-tenant': '7',
        'content-type': 'application/json',
        'content-length': '7',
      },
      body: '{"n":1}',
    });
  });

  test('values are percent-encoded as the binding says', () => {
    expect(binary({ ...EVENT, subject: 'Euro € 😀 "x" 5%' }).headers['ce-subject']).toBe(
      'Euro%20%E2%82%AC%20%F0%9F%98%80%20%22x%22%205%25',
    );
  });

  test('text data of another type is sent as it is, base64 as bytes, and no data as nothing', () => {
    expect(binary({ ...EVENT, datacontenttype: 'text/plain', data: 'hi' }).body).toBe('hi');
    expect(binary({ ...EVENT, data: 'hi' }).body).toBe('"hi"');
    expect(binary({ ...EVENT, datacontenttype: 'image/png', data_base64: 'aGk=' }).body).toBe('hi');
    expect(binary(EVENT)).toMatchObject({ body: '', headers: { 'content-length': '0' } });
    expect(binary(EVENT).headers).not.toHaveProperty('content-type');
  });

  test.each([
    ['not json', /is not JSON/],
    ['[]', /not a JSON object/],
    [JSON.stringify({ ...EVENT, id: '' }), /no attribute "id"/],
    [JSON.stringify({ ...EVENT, specversion: '0.3' }), /specversion 0\.3/],
    [JSON.stringify({ ...EVENT, 'Bad-Name': 'x' }), /"Bad-Name"/],
    [JSON.stringify({ ...EVENT, nested: {} }), /"nested"/],
    [JSON.stringify({ ...EVENT, data: 1, data_base64: 'aGk=' }), /data_base64/],
  ])('%s is refused', (text, words) => {
    expect(() => parseCloudEvents('structured', Buffer.from(text))).toThrow(words);
  });
});

test('a batch names the event that is wrong, and may be empty', () => {
  expect(parseCloudEvents('batch', Buffer.from('[]'))).toEqual([]);
  expect(() => parseCloudEvents('batch', Buffer.from(JSON.stringify([EVENT, {}])))).toThrow(
    /event 2 of the batch/,
  );
  expect(() => parseCloudEvents('batch', Buffer.from('{}'))).toThrow(/JSON array/);
});

test('source and id together name an event', () => {
  const key = (source: string, id: string) => cloudEventKey({ 'ce-source': source, 'ce-id': id });
  expect(key('a', '1')).toBe(key('a', '1'));
  expect(new Set([key('a', '1'), key('b', '1'), key('a', '2')]).size).toBe(3);
});
