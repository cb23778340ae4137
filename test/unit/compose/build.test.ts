import { expect, test } from 'vitest';
import { createFunctionWish } from '../../../sdk/compose/function-wish.ts';
import { loadProject } from '../../../sdk/compose/project.ts';
import { judge } from '../../../sdk/compose/support.ts';
import { createSourceFolder } from '../../helpers/source-folder.ts';

async function read(text: string) {
  await using folder = await createSourceFolder({
    'compose.yaml': text,
    'app/Containerfile': 'FROM x',
    'fn/index.ts': '',
  });
  const project = loadProject({ cwd: folder.path, env: { VERSION: '7' }, projectName: 'shop' });
  const wish = project.services.map((service) => createFunctionWish(project, service))[0];
  return { build: wish?.config['build'], refused: judge(project).refused.map(({ path }) => path) };
}

test('a Containerfile is told its arguments and the stage that becomes the image', async () => {
  const service = (rest: string) => `services: { a: { build: { context: ./app, ${rest} } } }`;
  expect(await read(service('args: { VERSION: "${VERSION}", DEBUG: 1 }, target: production'))).toEqual({
    build: { args: { VERSION: '7', DEBUG: '1' }, target: 'production' },
    refused: [],
  });
  expect(await read(service('args: [A=b]'))).toMatchObject({ build: { args: { A: 'b' } } });
  expect(await read('services: { a: { build: ./app } }')).toEqual({ build: undefined, refused: [] });
});

test('what its steps reach is said beside it', async () => {
  const { build } = await read(`
services:
  a:
    build: { context: ./app, target: web }
    x-skiff-service: { build: { network: internet } }`);
  expect(build).toEqual({ target: 'web', network: 'internet' });
});

test('arguments without a value, and without a Containerfile, are refused', async () => {
  expect((await read('services: { a: { build: { context: ./app, args: [NONE] } } }')).refused).toEqual([
    'services.a.build.args.NONE',
  ]);
  const handler =
    'services: { a: { build: { context: ./fn, args: { A: b }, target: x }, x-skiff-function: } }';
  expect((await read(handler)).refused).toEqual(['services.a.build.args', 'services.a.build.target']);
});
