/** Whether a path is that of a Containerfile: `Dockerfile`, `Containerfile.prod`, `images/api.Dockerfile`. */
export function isContainerfileName(path: string): boolean {
  return /(?:^|\/)(?:(?:Containerfile|Dockerfile)(?:\.[\w-]+)?|[\w-]+\.(?:Containerfile|Dockerfile))$/i.test(
    path,
  );
}
