/** Which modules a file of the bundle holds: the bundler names each in front of its code. */
export function modulesIn(text: string): string[] {
  return [...text.matchAll(/^\/\/ (dist\/src\/\S+|node_modules\/\S+)$/gm)].map(([, module]) => module!);
}
