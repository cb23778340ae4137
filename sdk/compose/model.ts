/** A compose application after everything was read, merged and made long: what the rest of Skiff works with. */

export interface Project {
  readonly name: string;
  /** In which its members are, on the server. */
  readonly namespace?: string;
  /** What paths were relative to. */
  readonly folder: string;
  /** Files it was made of, in order. */
  readonly files: readonly string[];
  /** Those that a profile or a name on the command line turned on, dependencies before dependents. */
  readonly services: readonly Service[];
  /** Names of services whose profile is not active. */
  readonly inactive: readonly string[];
  readonly networks: Readonly<Record<string, Resource | null>>;
  readonly volumes: Readonly<Record<string, Resource | null>>;
  readonly secrets: Readonly<Record<string, Grantable>>;
  readonly configs: Readonly<Record<string, Grantable>>;
  /** For people: variables that were not set, obsolete keys. */
  readonly notes: readonly string[];
}

export interface Service {
  readonly name: string;
  readonly image?: string;
  readonly build?: Build;
  readonly command?: readonly string[] | null;
  readonly entrypoint?: readonly string[] | null;
  /** Values of `environment` over those of `env_file`; names without a value that is known are left out. */
  readonly env: Readonly<Record<string, string>>;
  readonly ports: readonly Port[];
  readonly expose: readonly string[];
  readonly dependsOn: Readonly<Record<string, Dependency>>;
  readonly healthcheck?: Healthcheck;
  readonly secrets: readonly Grant[];
  readonly configs: readonly Grant[];
  readonly networks: readonly string[];
  readonly volumes: readonly Mount[];
  readonly deploy: Deploy;
  readonly labels: Readonly<Record<string, string>>;
  readonly profiles: readonly string[];
  readonly provider?: {
    readonly type: string;
    readonly options: Readonly<Record<string, readonly string[]>>;
  };
  /** `x-skiff-function`, when it is there. */
  readonly functionOptions?: Readonly<Record<string, unknown>>;
  /** Everything as it stands in the merged file. */
  readonly raw: Readonly<Record<string, unknown>>;
}

export interface Build {
  readonly context: string;
  readonly dockerfile?: string;
  readonly target?: string;
  readonly args?: Readonly<Record<string, string | null>>;
  readonly [key: string]: unknown;
}

export interface Port {
  readonly target: number;
  readonly published?: string;
  readonly host_ip?: string;
  readonly protocol: string;
}

export interface Dependency {
  readonly condition: 'service_started' | 'service_healthy' | 'service_completed_successfully';
  readonly required: boolean;
}

export interface Healthcheck {
  readonly test?: readonly string[];
  readonly disable: boolean;
  readonly intervalMs?: number;
  readonly timeoutMs?: number;
  readonly retries?: number;
  readonly startPeriodMs?: number;
}

export interface Grant {
  readonly source: string;
  readonly target?: string;
  readonly uid?: string;
  readonly gid?: string;
  readonly mode?: number;
}

export interface Mount {
  readonly type: string;
  readonly source?: string;
  readonly target: string;
  readonly readOnly: boolean;
}

export interface Deploy {
  readonly mode?: string;
  /** `min` and `max` differ for a range such as `0..10`. */
  readonly replicas?: { readonly min: number; readonly max: number; readonly isRange: boolean };
  readonly memory?: string | number;
  readonly cpus?: number;
  readonly constraints: readonly string[];
  readonly raw: Readonly<Record<string, unknown>>;
}

export interface Resource {
  readonly name?: string;
  readonly external?: unknown;
  readonly [key: string]: unknown;
}

export interface Grantable {
  readonly name?: string;
  readonly file?: string;
  readonly environment?: string;
  readonly content?: string;
  readonly external?: unknown;
}
