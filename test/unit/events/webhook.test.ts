import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { isAllowed, parseOpened } from '../../../gateway/events/outbox/webhook-address.ts';
import { createHeaders } from '../../../gateway/events/outbox/webhook.ts';

const closed = parseOpened([]);

test.each([
  '127.0.0.1',
  '0.0.0.0',
  '10.1.2.3',
  '172.16.0.1',
  '172.31.255.255',
  '192.168.1.1',
  '169.254.169.254',
  '100.64.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::1',
  '::',
  '::ffff:127.0.0.1',
  '::ffff:8.8.8.8',
  '64:ff9b::7f00:1',
  '2002:7f00:1::',
  'fd00:ec2::254',
  'fe80::1',
  'ff02::1',
])('%s is not reached by a webhook', (address) => {
  expect(isAllowed(address, closed)).toBe(false);
});

test.each(['8.8.8.8', '172.32.0.1', '100.128.0.1', '2600::1', '2a00:1450:4001::1'])('%s is', (address) => {
  expect(isAllowed(address, closed)).toBe(true);
});

test('a range that the operator opened is reached, its neighbours are not', () => {
  const opened = parseOpened(['10.1.0.0/16']);
  expect(isAllowed('10.1.9.9', opened)).toBe(true);
  expect(isAllowed('10.2.0.1', opened)).toBe(false);
  expect(() => parseOpened(['10.1.0.0/99'])).toThrow('IPv4 range');
  expect(() => parseOpened(['localhost'])).toThrow('IPv4 range');
});

test('the signature is that of Standard Webhooks, with keys in both forms', () => {
  const body = Buffer.from('{"a":1}');
  const key = Buffer.from('0123456789abcdef');
  const expected = createHmac('sha256', key).update('msg-1.1700000000.{"a":1}').digest('base64');
  for (const secret of [key.toString(), `whsec_${key.toString('base64')}`]) {
    const message = {
      url: 'https://example.com/',
      id: 'msg-1',
      contentType: 'application/json',
      body,
      secret,
    };
    expect(createHeaders(message, 1_700_000_000)).toMatchObject({
      'webhook-id': 'msg-1',
      'webhook-timestamp': '1700000000',
      'webhook-signature': `v1,${expected}`,
    });
  }
});
