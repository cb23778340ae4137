/** Whether a service of a compose file is a function or is kept running. */
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
