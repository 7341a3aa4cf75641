"""Fields on blocks of several sizes and on meshes of cells, put on one grid."""
