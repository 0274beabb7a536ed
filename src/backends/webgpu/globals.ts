/**
 * WebGPU's types where a project has them (TypeScript's DOM library, or `@webgpu/types`), and something harmless where it has not, so
 * that our declarations also hold in a project for Node alone with `skipLibCheck` off. Prior art: `@types/node`, for `fetch` and others.
 */
type Global = typeof globalThis;

export type Adapter = Global extends { GPUAdapter: { prototype: infer T } } ? T : { readonly info: unknown; readonly limits: unknown; readonly features: unknown };
export type AdapterInfo = Global extends { GPUAdapterInfo: { prototype: infer T } } ? T : unknown;
export type Device = Global extends { GPUDevice: { prototype: infer T } } ? T : unknown;
