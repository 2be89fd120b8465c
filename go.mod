module github.com/imcluster/imcluster

go 1.26.0
