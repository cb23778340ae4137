import { expect, test } from 'vitest';
import { parseExternalReference, parseLogins } from '../../../infra/oci/external-registry.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

test.each([
  ['skiff/node:26', undefined, 'skiff/node', '26'],
  ['shop', undefined, 'shop', 'latest'],
  ['example.test/shop', 'example.test', 'shop', 'latest'],
  ['example.test:5000/team/shop:1.4', 'example.test:5000', 'team/shop', '1.4'],
  ['localhost/shop', 'localhost', 'shop', 'latest'],
  [`example.test/shop:1@${DIGEST}`, 'example.test', 'shop', DIGEST],
  [`shop@${DIGEST}`, undefined, 'shop', DIGEST],
])('reads %s', (text, host, repository, tagOrDigest) => {
  expect(parseExternalReference(text)).toEqual({ host, repository, tagOrDigest });
});

test.each([
  '',
  'A',
  'a b',
  'example.test/',
  'shop:',
  'shop@sha256:12',
  'shop@md5:1',
  '../x',
  'https://example.test/x',
])('refuses "%s"', (text) => {
  expect(() => parseExternalReference(text)).toThrow(/is not an image reference/);
});

test('logins are read as Docker and Podman write them, and refused without their secrets', () => {
  const auth = Buffer.from('me:s:cret').toString('base64');
  expect(parseLogins(JSON.stringify({ auths: { 'example.test': { auth } }, credsStore: 'x' }))).toEqual({
    'example.test': { auth },
  });
  expect(() => parseLogins('{"auths": "s3cret"')).toThrow(
    /^SKIFF_REGISTRY_LOGINS is not a Docker config\.json/,
  );
});
