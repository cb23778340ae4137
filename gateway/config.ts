/** Settings of the gateway. See infra/lib/config.ts. */
import { z } from 'zod';
import { commonSettings, loadConfig } from '../infra/lib/config.ts';
import { durabilitySetting } from './events/config.ts';

const settings = {
  ...commonSettings,
  SKIFF_GATEWAY_PORT: z.coerce.number().int().min(1).max(65_535).default(8080),
  /** Address to listen on. Anything but loopback is open to whoever reaches it: functions are public by default. */
  SKIFF_GATEWAY_HOST: z.string().min(1).default('127.0.0.1'),
  /** How clients reach this gateway, for the URLs it tells them; absent: made from host and port. */
  SKIFF_GATEWAY_PUBLIC_URL: z.url({ protocol: /^https?$/ }).optional(),
  /** The dashboard's own port, so that pages of functions are of another origin. 0: none. Absent: two above the gateway's. */
  SKIFF_DASHBOARD_PORT: z.coerce.number().int().min(0).max(65_535).optional(),
  /** Keep slots of hot functions for a moment, so that a warm call needs no round trip to Redis. */
  SKIFF_LEASES: z.stringbool().default(true),
  /** Function calls and events a second of one address, and of one token. 0: no limit. */
  SKIFF_RATE_LIMIT_RPS: z.coerce.number().min(0).default(0),
  /** The same for the rest of the API. */
  SKIFF_API_RATE_LIMIT_RPS: z.coerce.number().min(0).default(500),
  SKIFF_EVENTS_DURABILITY: durabilitySetting,
} as const;

export type GatewayConfig = ReturnType<typeof loadGatewayConfig>;

export function loadGatewayConfig(env: Readonly<Record<string, string | undefined>>) {
  return loadConfig(settings, env);
}

/** Without a slash at the end. */
export function publicUrlOf(config: GatewayConfig): string {
  if (config.SKIFF_GATEWAY_PUBLIC_URL !== undefined)
    return config.SKIFF_GATEWAY_PUBLIC_URL.replace(/\/+$/, '');
  const host = config.SKIFF_GATEWAY_HOST;
  const isAny = host === '0.0.0.0' || host === '::';
  const name = isAny ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
  return `http://${name}:${config.SKIFF_GATEWAY_PORT}`;
}
