"""The sandbox's node: runs pods as local processes, and can join any API server with nothing but a kubeconfig.

What it does not do, and what happens instead:

- A file system of its own, `readOnlyRootFilesystem`: processes see the machine's files; mount paths are replaced in
  command, args and env. Mounts below /var/run are real for a node with CAP_SYS_ADMIN; without it in-cluster clients,
  which read `/var/run/secrets/kubernetes.io/serviceaccount`, need that path by argument or variable.
- `runAsUser`: honoured by root for a user that can reach the files, else ignored with an Event. Capabilities, seccomp
  and `privileged` are ignored.
- Network namespaces, NetworkPolicy, host ports, UDP, IPv6, cluster DNS, NodePort, session affinity: none. A pod has an
  IPv4 address to listen on, and a Service's cluster IP forwards TCP to ready pods.
- CPU limits are not enforced. Memory limits are, by looking: a short peak may pass.
- persistentVolumeClaim, csi, ephemeral and other volumes: the pod waits, and says why. emptyDir (without sizeLimit),
  hostPath, configMap, secret, downwardAPI and projected volumes work.
- An image's own command: CreateContainerError. An image that was not named to the node: ErrImagePull.
- exec, attach, port-forward, ephemeral containers, gRPC probes: refused.
"""
