/** A helper whose vec4 form applies it to each lane. */
export function lanes(name: string, params: readonly string[], scalar: string, result: string): string {
  const declared = params.map((p) => `${p}: vec4<${scalar}>`).join(', ');
  const call = ['x', 'y', 'z', 'w'].map((lane) => `${name}(${params.map((p) => `${p}.${lane}`).join(', ')})`).join(', ');
  return `fn ${name}4(${declared}) -> vec4<${result}> { return vec4<${result}>(${call}); }\n`;
}
