/** Whether a service of a compose file is a function or is kept running. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Service } from './model.ts';

export type ServiceKind = 'function' | 'service';

/** Functions say so, by `x-skiff-function`, a range of replicas or the provider skiff; all else is a service. */
export function kindOf(service: Service): ServiceKind {
  const isFunction =
    service.functionOptions !== undefined ||
    service.deploy.replicas?.isRange === true ||
    service.provider?.type === 'skiff';
  return isFunction ? 'function' : 'service';
}

/** What compose builds is a Containerfile. A function's folder may have one for other uses, so that it must be named. */
export function tryFindContainerfile(service: Service): string | undefined {
  const { build } = service;
  if (build === undefined || build.dockerfile !== undefined) return build?.dockerfile;
  if (kindOf(service) === 'function') return undefined;
  return ['Containerfile', 'Dockerfile'].find((name) => existsSync(join(build.context, name)));
}

/** It brings its own program, which is asked by HTTP. */
export function isImage(service: Service): boolean {
  return service.image !== undefined || tryFindContainerfile(service) !== undefined;
}
