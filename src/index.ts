/** The public API: what plugins and programs import as `tsrt-bench`. */
export { definePlugin, type Plugin } from './plugin.ts';
export type { Backend } from './backends/backend.ts';
export type { Reporter, ReportInput } from './report/reporter.ts';
