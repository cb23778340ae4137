import { expect, test } from 'vitest';
import { gatewayUrl, loadHostConfig, registryPort } from '../../../infra/host/config.ts';
import { parseRoles } from '../../../infra/host/server.ts';

test('puts the registry beside the gateway unless told where', () => {
  expect(registryPort(loadHostConfig({ SKIFF_GATEWAY_PORT: '9000' }))).toBe(9001);
  expect(registryPort(loadHostConfig({ SKIFF_REGISTRY_PORT: '5000' }))).toBe(5000);
});

test('reaches a gateway that listens everywhere on loopback', () => {
  expect(gatewayUrl(loadHostConfig({}))).toBe('http://127.0.0.1:8080');
  expect(gatewayUrl(loadHostConfig({ SKIFF_GATEWAY_HOST: '0.0.0.0' }))).toBe('http://127.0.0.1:8080');
  expect(gatewayUrl(loadHostConfig({ SKIFF_GATEWAY_HOST: '::1' }))).toBe('http://[::1]:8080');
});

test('names the setting and the value it refuses', () => {
  expect(() => loadHostConfig({ SKIFF_GATEWAY_PORT: '70000' })).toThrow(/SKIFF_GATEWAY_PORT.*70000/);
  expect(() => loadHostConfig({ SKIFF_GATEWAY_PROT: '80' })).toThrow(/unknown setting SKIFF_GATEWAY_PROT/);
});

test('starts the roles in one order, however they are named', () => {
  expect(parseRoles([])).toEqual(['runner', 'builder', 'events', 'gateway']);
  expect(parseRoles(['gateway', 'runner'])).toEqual(['runner', 'gateway']);
  expect(() => parseRoles(['gatway'])).toThrow(/unknown role "gatway".*gateway/);
});
