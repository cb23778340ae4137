/** The client against the server's own description: every operation is reached, by exactly one method. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createOpenApi } from '../../../gateway/routes/openapi.ts';
import { createClient, type Client } from '../../../sdk/client/index.ts';
import { startHttpServer, type TestServer } from '../../helpers/http-server.ts';

type Call = (skiff: Client) => unknown;

const alias = [{ deployment: 'dep-1', weight: 100 }];
const service = { name: 'web', function: 'hello', replicas: 1 } as never;

/**
 * Operation of /openapi.json -> path of the method on the client, and a call of it, where values stand for parameters of
 * the same name. A new route needs a method in sdk/client and a line here.
 */
const METHODS: Readonly<Record<string, readonly [method: string, call: Call]>> = {
  uploadSource: ['upload', (skiff) => skiff.upload(new Uint8Array(1))],
  deploy: ['startDeploy', (skiff) => skiff.startDeploy('NAME', { image: 'x' })],
  listBuilds: ['builds', (skiff) => skiff.builds()],
  getBuild: ['build', (skiff) => skiff.build('ID')],
  followBuild: ['buildEvents', (skiff) => skiff.buildEvents('ID').next()],
  cancelBuild: ['cancelBuild', (skiff) => skiff.cancelBuild('ID')],
  listFunctions: ['list', (skiff) => skiff.list()],
  getFunction: ['get', (skiff) => skiff.get('NAME')],
  removeFunction: ['remove', (skiff) => skiff.remove('NAME')],
  restartFunction: ['restart', (skiff) => skiff.restart('NAME')],
  listDeployments: ['deployments', (skiff) => skiff.deployments('NAME')],
  getDeployment: ['deployment', (skiff) => skiff.deployment('ID')],
  setAlias: ['setAlias', (skiff) => skiff.setAlias('NAME', 'ALIAS', alias)],
  readLogs: ['logs', (skiff) => skiff.logs('NAME').next()],
  readSwarm: ['swarm.get', (skiff) => skiff.swarm.get()],
  initSwarm: ['swarm.init', (skiff) => skiff.swarm.init()],
  endSwarm: ['swarm.end', (skiff) => skiff.swarm.end()],
  readJoinToken: ['swarm.joinToken', (skiff) => skiff.swarm.joinToken('ROLE' as never)],
  rotateJoinToken: ['swarm.rotateJoinToken', (skiff) => skiff.swarm.rotateJoinToken('ROLE' as never)],
  listNodes: ['nodes', (skiff) => skiff.nodes()],
  listNodeTasks: ['node.tasks', (skiff) => skiff.node.tasks('ID')],
  updateNode: ['node.update', (skiff) => skiff.node.update('ID', {})],
  removeNode: ['node.remove', (skiff) => skiff.node.remove('ID')],
  listServices: ['services.list', (skiff) => skiff.services.list()],
  createService: ['services.create', (skiff) => skiff.services.create(service)],
  readService: ['services.get', (skiff) => skiff.services.get('NAME')],
  updateService: ['services.update', (skiff) => skiff.services.update('NAME', {})],
  rollbackService: ['services.rollback', (skiff) => skiff.services.rollback('NAME')],
  removeService: ['services.remove', (skiff) => skiff.services.remove('NAME')],
  listVolumes: ['volumes.list', (skiff) => skiff.volumes.list()],
  readVolume: ['volumes.get', (skiff) => skiff.volumes.get('NAME')],
  removeVolume: ['volumes.remove', (skiff) => skiff.volumes.remove('NAME')],
  explain: ['explain', (skiff) => skiff.explain('SUBJECT')],
  readStats: ['stats', (skiff) => skiff.stats()],
  followStats: ['followStats', (skiff) => skiff.followStats().next()],
  listCalls: ['calls', (skiff) => skiff.calls()],
  readTrace: ['trace', (skiff) => skiff.trace('ID')],
  readUsage: ['df', (skiff) => skiff.df()],
  setSecret: ['secrets.set', (skiff) => skiff.secrets.set('NAME', 'value')],
  listSecrets: ['secrets.list', (skiff) => skiff.secrets.list()],
  removeSecret: ['secrets.remove', (skiff) => skiff.secrets.remove('NAME')],
  rotateSecretKey: ['secrets.rotateKey', (skiff) => skiff.secrets.rotateKey()],
  setRegistryLogin: ['registries.login', (skiff) => skiff.registries.login('HOST', 'user', 'password')],
  listRegistryLogins: ['registries.list', (skiff) => skiff.registries.list()],
  removeRegistryLogin: ['registries.logout', (skiff) => skiff.registries.logout('HOST')],
  whoAmI: ['whoAmI', (skiff) => skiff.whoAmI()],
  createToken: ['tokens.create', (skiff) => skiff.tokens.create({ name: 'ci', scopes: ['read'] })],
  listTokens: ['tokens.list', (skiff) => skiff.tokens.list()],
  revokeToken: ['tokens.remove', (skiff) => skiff.tokens.remove('ID')],
  submitEvents: ['submit', (skiff) => skiff.submit([])],
  submitGroup: ['submitGroup', (skiff) => skiff.submitGroup([], { function: 'NAME' } as never)],
  readEventStats: ['eventStats', (skiff) => skiff.eventStats()],
  getInvocation: ['invocation', (skiff) => skiff.invocation('ID')],
  getInvocationResult: ['result', (skiff) => skiff.result('ID')],
  getInvocationRequest: ['capturedRequest', (skiff) => skiff.capturedRequest('ID')],
  replayInvocation: ['replayInvocation', (skiff) => skiff.replayInvocation('ID')],
  listInvocationSteps: ['invocationSteps', (skiff) => skiff.invocationSteps('ID')],
  cancelInvocation: ['cancel', (skiff) => skiff.cancel('ID')],
  sendSignal: ['sendEvent', (skiff) => skiff.sendEvent('NAME')],
  listDead: ['dead', (skiff) => skiff.dead()],
  replayDead: ['replay', (skiff) => skiff.replay({ all: true })],
  purgeDead: ['purge', (skiff) => skiff.purge({ all: true })],
  listSchedules: ['schedules.list', (skiff) => skiff.schedules.list()],
  getSchedule: ['schedules.get', (skiff) => skiff.schedules.get('NAME')],
  putSchedule: [
    'schedules.put',
    (skiff) => skiff.schedules.put('NAME', { function: 'x', every: '1m' } as never),
  ],
  removeSchedule: ['schedules.remove', (skiff) => skiff.schedules.remove('NAME')],
  pauseSchedule: ['schedules.pause', (skiff) => skiff.schedules.pause('NAME')],
  resumeSchedule: ['schedules.resume', (skiff) => skiff.schedules.resume('NAME')],
  runSchedule: ['schedules.run', (skiff) => skiff.schedules.run('NAME')],
  readHealth: ['alive', (skiff) => skiff.alive()],
  readReadiness: ['health', (skiff) => skiff.health()],
  readOpenApi: ['openApi', (skiff) => skiff.openApi()],
  readMetrics: ['metrics', (skiff) => skiff.metrics()],
};

/** Made of the others, or calls of functions, which are no operations of the API. */
const COMPOSITES = ['rollback', 'promote', 'deploy', 'buildImage', 'followBuild', 'waitFor'];
const INVOCATIONS = ['fetch', 'fetchStream', 'invoke', 'stream', 'invokeAsync'];

interface Operation {
  readonly operationId: string;
}
const paths = createOpenApi('http://x', '0')['paths'] as Record<string, Record<string, Operation>>;
const operations = Object.entries(paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, { operationId }]) => ({
    operationId,
    path,
    method: method.toUpperCase(),
  })),
);

let server: TestServer;
beforeAll(async () => {
  // What matters is the request: an answer nobody understands ends the method.
  server = await startHttpServer((_, response) => void response.writeHead(404).end('none'));
});
afterAll(() => server.close());

const listMethods = (value: object, prefix = ''): string[] =>
  Object.entries(value).flatMap(([name, member]) =>
    typeof member === 'object' && member !== null
      ? listMethods(member as object, `${prefix}${name}.`)
      : typeof member === 'function'
        ? [prefix + name]
        : [],
  );

test('the table has every operation of the description, and every method of the client once', () => {
  expect(Object.keys(METHODS).toSorted()).toEqual(
    operations.map(({ operationId }) => operationId).toSorted(),
  );
  const reached = Object.values(METHODS).map(([method]) => method);
  const all = [...reached, ...COMPOSITES, ...INVOCATIONS].toSorted();
  expect(all).toEqual(listMethods(createClient({ url: server.url })).toSorted());
});

test.each(operations)('$operationId: $method $path', async ({ operationId, method, path }) => {
  server.seen.length = 0;
  const skiff = createClient({ url: server.url, token: 'secret', retry: { attemptsMax: 1 } });
  await Promise.resolve(METHODS[operationId]?.[1](skiff)).catch(() => {});
  expect(server.seen.map((seen) => `${seen.method} ${seen.url.split('?')[0]}`)).toEqual([
    `${method} ${path.replaceAll(/\{(\w+)\}/g, (_, name: string) => name.toUpperCase())}`,
  ]);
  expect(server.seen[0]?.headers.authorization).toBe('Bearer secret');
});
