import { expect, test } from 'vitest';
import { assertReadable } from '../../../../builder/image/readable.ts';

const digest = `sha256:${'0'.repeat(64)}`;

test.each([
  ['team.a', `functions/team.b@${digest}`],
  ['team.a', 'skiff/node:26'],
  ['team.a', 'registry.test/functions/other.b:1'],
  ['a', `functions/team.b@${digest}`],
])('C16: "%s" may be made of %s', (functionName, image) => {
  expect(() => assertReadable(functionName, image)).not.toThrow();
});

test.each([
  ['team.a', `functions/other.b@${digest}`],
  ['team.a', 'functions/b:latest'],
  ['team.a', 'functions/teams.b:latest'],
])('C16: for "%s" there is no %s', (functionName, image) => {
  expect(() => assertReadable(functionName, image)).toThrow(`there is no image "${image}"`);
});
